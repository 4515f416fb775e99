"""The options of SSPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from idemvox.errors import RecipeError
from idemvox.positives.cluster_options import ClusterOptions, check_choices

__all__ = ["SSPSOptions"]

SampleFrom = Literal["queue", "train"]
Unit = Literal["utterance", "recording"]
Level = Literal["embedding", "view"]


@dataclass(frozen=True, slots=True)
class SSPSOptions(ClusterOptions):
    """The options of SSPS besides those of :class:`~idemvox.positives.cluster_options.ClusterOptions`.

    Attributes:
        sample_from: draw from the utterances of the cluster that the ``queue`` holds, or from all of them
            (``train``).
        unit: what is clustered: each ``utterance``, or the mean of each ``recording``; then K is the number
            of clusters of recordings. Recordings are distinguished by name. An utterance of unknown recording
            counts as a recording of its own. First a recording of the cluster is drawn, never the anchor's,
            then one of its utterances. If the queue does not hold that utterance, the anchor keeps its
            positive, so by default the queue has room for all utterances.
        nearest_recordings: draw only from this number of recordings of the cluster, those nearest to the
            anchor's; ``None``: from all. It needs ``unit: recording`` and ``neighbours: 0``.
        level: replace the ``embedding`` of the positive, or cut the ``view`` from the pseudo-positive; the
            latter uses no queue.
    """

    sample_from: SampleFrom = "queue"
    unit: Unit = "utterance"
    nearest_recordings: int | None = None
    level: Level = "embedding"

    def __post_init__(self) -> None:
        ClusterOptions.__post_init__(self)  # super() does not work in a dataclass with slots
        check_choices(self, {"sample_from": SampleFrom, "unit": Unit, "level": Level})
        if self.level == "view" and (self.queue is not None or self.sample_from == "train"):
            raise RecipeError(
                "positives.level=view stores no embeddings: leave out positives.queue and "
                "positives.sample_from"
            )
        if self.nearest_recordings is not None and (
            self.nearest_recordings < 1 or self.unit != "recording" or self.neighbours
        ):
            raise RecipeError(
                "positives.nearest_recordings must be at least 1, and needs positives.unit=recording and "
                "positives.neighbours=0"
            )
