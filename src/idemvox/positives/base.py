"""What every positive sampler is."""

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
    """What a sampler must know of the run.

    Attributes:
        utterances: N of the training manifest.
        dim: width of a representation.
        embedding_dim: width of the targets to be swapped.
        seed: of the run.
        classes: (N,) numbers, -1 where unknown; given to samplers that declare ``supervised`` and to no
            other.
        recordings: (N,) recording numbers, -1 where unknown, of names alone whoever speaks; given to samplers
            whose options need them (:meth:`Positives.needs_recordings`) and to no other.
        prior: (N, D) a frozen embedding of the utterances; given to samplers that ask for one
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
    """Chooses what an anchor is pulled towards; this base keeps the same utterance.

    A module, so that queues are saved and restored like weights.  A sampler works at one of two levels:
    *views*, by naming for each utterance the partner that its positive view is cut from
    (:meth:`partners`); or *embeddings*, by replacing targets in :meth:`forward`.  What it did in a step
    is the :class:`~idemvox.batch.Swap` that it returns; the module keeps none of it.
    """

    Options: ClassVar[type[Any]]
    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options that make it small enough for a test."""

    supervised: ClassVar[bool] = False
    """Whether the sampler is given classes."""

    needs_fill: ClassVar[bool] = False
    """Whether :meth:`observe` must have seen every utterance before the first epoch."""

    stores: bool = True
    """Whether :meth:`store` does anything: if not, that pass makes references alone."""

    refresh: bool = False
    """Whether that pass is made again before each further epoch; steps then observe nothing."""

    @classmethod
    def needs_recordings(cls, options: Any) -> bool:
        """Return whether a sampler of these options reads which recording an utterance is of."""
        return False

    @classmethod
    def prior(cls, options: Any) -> str | None:
        """Return where the frozen embedding is that a sampler of these options reads; ``None`` for none."""
        return None

    def __init__(self, options: Any, setting: Setting) -> None:
        super().__init__()
        self.options = options
        self.setting = setting

    def views(self) -> Views:
        """Name the crops that the sampler reads besides the framework's own: at most ``reference``."""
        return {}

    def partners(self, epoch: int) -> npt.NDArray[np.int64] | None:
        """Return (N,) the utterance that each one's positive view is cut from; ``None`` for its own.

        Or (N, P) several of them, from which the crops of a view of several are cut in turns.
        """
        return None

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Prepare the epoch (SSPS: k-means), and return numbers to log."""
        return {}

    def partition(self) -> Tensor | None:
        """Return (N,) this epoch's cluster of each utterance, -1 for none; ``None`` without clusters."""
        return None

    def observe(self, ids: Tensor, reference: Tensor) -> None:
        """Take in the reference representations (B, dim) of a batch."""

    def store(self, ids: Tensor, targets: Tensor) -> None:
        """Take in targets (B, embedding_dim): in the fill pass, and after each step that was learnt from."""

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        """Replace some of the targets (B, embedding_dim) of the utterances ``ids`` (B,).

        Nothing is stored yet: what the result offers is given to :meth:`store` once the step was learnt from.
        """
        return Swap(targets)
