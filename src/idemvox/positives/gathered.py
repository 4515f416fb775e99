"""A positive sampler for the batches of all ranks."""

from __future__ import annotations

from torch import Tensor

from idemvox.batch import Swap
from idemvox.positives.base import Positives
from idemvox.ranks import collect, gather

__all__ = ["Gathered"]


class Gathered:
    """Passes the batches of all ranks to a sampler, in the same order on each rank.

    So the samplers of all ranks store and choose the same. With one process it just calls the sampler.
    """

    def __init__(self, positives: Positives) -> None:
        self.positives = positives

    def __call__(self, ids: Tensor, targets: Tensor) -> Swap:
        """Return the swap for all ranks, from this rank's utterances ``ids`` (B,) and targets (B, D)."""
        swap: Swap = self.positives(gather(ids), gather(targets))
        return swap

    def learnt(self, ids: Tensor, swap: Swap) -> None:
        """Store the targets that a step offered, unless it was skipped; ``ids`` (B,) are this rank's."""
        if swap.offered is not None:
            self.positives.store(gather(ids), swap.offered)

    def observe(self, ids: Tensor, reference: Tensor) -> None:
        """Store the reference representations (B, dim) of a batch; B may differ between ranks."""
        self.positives.observe(collect(ids), collect(reference))

    def store(self, ids: Tensor, targets: Tensor) -> None:
        """Store targets (B, D) in the fill pass; B may differ between ranks."""
        self.positives.store(collect(ids), collect(targets))
