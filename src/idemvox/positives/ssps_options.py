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
    """What SSPS has besides :class:`~idemvox.positives.cluster_options.ClusterOptions`.

    ``sample_from`` draws from the utterances of the cluster that the queue holds, or from all of them.

    With ``unit: recording`` K counts clusters of recordings. Recordings are told apart by name alone;
    an utterance whose recording is unknown is one by itself. A recording is drawn from the cluster,
    then one of its utterances, and the anchor's positive stays where the queue does not hold that; so
    the queue by default has room for all. With M = 0 the anchor's own recording is left out, and
    ``nearest_recordings`` draws from so many others of the cluster at most, those nearest to it.
    ``level: view`` reads no option of the queue.
    """

    sample_from: SampleFrom = "queue"
    unit: Unit = "utterance"
    nearest_recordings: int | None = None
    level: Level = "embedding"

    def __post_init__(self) -> None:
        ClusterOptions.__post_init__(self)  # super() does not work in a dataclass with slots
        check_choices(self, {"sample_from": SampleFrom, "unit": Unit, "level": Level})
        if self.level == "view" and (self.queue is not None or self.sample_from == "train"):
            raise RecipeError("ssps level=view stores no embeddings: leave queue and sample_from out")
        if self.nearest_recordings is not None and (
            self.nearest_recordings < 1 or self.unit != "recording" or self.neighbours
        ):
            raise RecipeError("ssps nearest_recordings is 1 or more, with unit=recording and neighbours=0")
