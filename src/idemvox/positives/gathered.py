"""A positive sampler that takes the batches of all ranks as one."""

from __future__ import annotations

from torch import Tensor

from idemvox.batch import Swap
from idemvox.positives.base import Positives
from idemvox.ranks import collect, gather

__all__ = ["Gathered"]


class Gathered:
    """Shows a sampler the batches of all ranks, in the same order on each rank.

    So the samplers of all ranks hold and choose the same.  With one process it just calls the sampler.
    """

    def __init__(self, positives: Positives) -> None:
        self.positives = positives

    def __call__(self, ids: Tensor, targets: Tensor) -> Swap:
        """Choose for this rank's utterances ``ids`` (B,) with targets (B, D), and for all other ranks'."""
        swap: Swap = self.positives(gather(ids), gather(targets))
        return swap

    def learnt(self, ids: Tensor, swap: Swap) -> None:
        """Let the sampler store what a step offered, which was learnt from; ``ids`` (B,) of this rank."""
        if swap.offered is not None:
            self.positives.store(gather(ids), swap.offered)

    def observe(self, ids: Tensor, reference: Tensor) -> None:
        """Take in the reference representations (B, dim) of a batch; ranks may give different numbers."""
        self.positives.observe(collect(ids), collect(reference))

    def store(self, ids: Tensor, targets: Tensor) -> None:
        """Take in targets (B, D) without choosing; ranks may give different numbers."""
        self.positives.store(collect(ids), collect(targets))
