"""A positive sampler that takes the batches of all ranks as one."""

from __future__ import annotations

import torch
from torch import Tensor

from idemvox.positives.base import Positives
from idemvox.ranks import collect, gather, own

__all__ = ["Gathered"]


class Gathered:
    """What a framework and the loop see of a sampler.

    Every rank tells the sampler of every rank's batch, in the same order, so that all samplers hold and
    choose the same.  In one process it is the sampler itself, but for the detour.
    """

    def __init__(self, positives: Positives) -> None:
        self.positives = positives

    def __call__(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the targets (B, D) of the utterances ``ids`` (B,), perhaps with pseudo-positives put in."""
        swapped, replaced = self.positives(gather(ids), gather(targets.detach())), self.positives.replaced
        return targets if replaced is None else torch.where(own(replaced)[:, None], own(swapped), targets)

    def related(self, ids: Tensor) -> Tensor | None:
        """Return (W B, W B) which utterances are no negatives of which; ``None``: all others are."""
        return self.positives.related(gather(ids))

    def observe(self, ids: Tensor, reference: Tensor) -> None:
        """Take in the reference representations (B, dim) of a batch; ranks may give different numbers."""
        self.positives.observe(collect(ids), collect(reference))

    def store(self, ids: Tensor, targets: Tensor) -> None:
        """Take in targets (B, D) without choosing; ranks may give different numbers."""
        self.positives.store(collect(ids), collect(targets))
