"""The base class of positive samplers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from idemvox.batch import Swap
from idemvox.corpus.crops import Views

__all__ = ["Positives", "Setting"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sampler needs to know about the run.

    Attributes:
        utterances: number N of utterances in the training manifest.
        dim: width of a representation.
        embedding_dim: width of a target.
        seed: seed of the run.
        classes: (N,) class numbers, -1 if unknown; only for samplers that declare ``supervised``.
        recordings: (N,) recording numbers, -1 if unknown; only for samplers whose options need them
            (:meth:`Positives.needs_recordings`). They come from the names of the recordings, not from
            speakers.
        prior: (N, D) frozen embeddings of the utterances; only for samplers whose options name some
            (:meth:`Positives.prior`).
    """

    utterances: int
    dim: int
    embedding_dim: int
    seed: int
    classes: npt.NDArray[np.int64] | None = None
    recordings: npt.NDArray[np.int64] | None = None
    prior: npt.NDArray[np.float32] | None = None


class Positives(nn.Module):
    """Chooses the positives of anchors; this base class keeps the utterance itself.

    It is a module, so that queues are saved and restored like weights. A sampler works at one of two levels.
    At the level of *views*, :meth:`partners` names the utterance that each positive view is cut from. At the
    level of *embeddings*, :meth:`forward` replaces targets. The result of a step is the
    :class:`~idemvox.batch.Swap` that :meth:`forward` returns; the module does not keep it.
    """

    Options: ClassVar[type[Any]]
    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options that make the sampler small enough for a test."""

    supervised: ClassVar[bool] = False
    """Whether the sampler gets classes."""

    needs_fill: ClassVar[bool] = False
    """Whether a fill pass over all utterances must come before the first epoch."""

    stores: bool = True
    """Whether the sampler stores targets; otherwise the fill pass only computes references."""

    refresh: bool = False
    """Whether the fill pass is repeated before every epoch; steps then compute no references."""

    @classmethod
    def needs_recordings(cls, options: Any) -> bool:
        """Return whether a sampler with these options needs the recordings of utterances."""
        return False

    @classmethod
    def prior(cls, options: Any) -> str | None:
        """Return the source of the frozen embeddings that these options need; ``None`` if they need none."""
        return None

    def __init__(self, options: Any, setting: Setting) -> None:
        super().__init__()
        self.options = options
        self.setting = setting

    def views(self) -> Views:
        """Return the crops that the sampler reads besides the framework's, by name: at most ``reference``."""
        return {}

    def partners(self, epoch: int) -> npt.NDArray[np.int64] | None:
        """Return the utterance that each positive view is cut from; ``None``: the anchor's.

        Returns:
            (N,) utterances; or (N, P), from which the crops of a view with several crops are cut in turn.
        """
        return None

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Prepare the epoch, for example by clustering, and return numbers to log."""
        return {}

    def partition(self) -> Tensor | None:
        """Return (N,) the cluster of each utterance in this epoch, -1 for none; ``None`` without clusters."""
        return None

    def observe(self, ids: Tensor, reference: Tensor) -> None:
        """Store the reference representations (B, dim) of a batch."""

    def store(self, ids: Tensor, targets: Tensor) -> None:
        """Store targets (B, embedding_dim), in the fill pass and after each step that was not skipped."""

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        """Replace some of the targets (B, embedding_dim) of the utterances ``ids`` (B,).

        This stores nothing. The loop passes ``offered`` of the result to :meth:`store` after a step that was
        not skipped.
        """
        return Swap(targets)
