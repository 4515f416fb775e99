"""The values that pass between the training loop, a framework and a positive sampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Batch", "Groups", "Sampler", "Step", "Swap"]


class Batch(NamedTuple):
    """Some utterances of the corpus, each as named views.

    Attributes:
        ids: (B,) int64 positions in the training manifest: what positives and negatives are defined by.
        views: name -> (B, n, T) samples in [-1, 1]: n crops of each utterance.
        classes: (B,) numbers for supervised frameworks, -1 where unknown, ``None`` for all others.
    """

    ids: Tensor
    views: Mapping[str, Tensor]
    classes: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """Which utterances are probably of one voice, so that none is to be a negative of another.

    Attributes:
        of: (N,) the group of each utterance of the manifest, counted from 0.
        given: (B,) the group of what stands in for each utterance of the step, ``none`` where nothing does.
        none: the number in ``of`` and ``given`` that means no group.
    """

    of: Tensor
    given: Tensor
    none: int

    def related(self, ids: Tensor, others: Tensor | None = None) -> Tensor:
        """Return which utterances share a group; see :meth:`Swap.related`."""
        if len(ids) != len(self.given):
            raise ValueError(f"the step has {len(self.given)} utterances (of all ranks), not {len(ids)}")
        own, given = self.of[ids], self.given  # (B,)
        rows = [torch.where(group == self.none, -1, group)[:, None] for group in (own, given)]  # like nothing
        if others is not None:
            known = self.of[others]  # (Q,)
            shared = (rows[0] == known) | (rows[1] == known) | (ids[:, None] == others)
            return shared & (others >= 0)
        crossed = rows[0] == given
        related: Tensor = (rows[0] == own) | crossed | crossed.T | (rows[1] == given)
        return related.fill_diagonal_(False)


@dataclass(frozen=True, slots=True)
class Swap:
    """What a positive sampler made of a step's targets.  Rows are the utterances of all ranks, W B of them.

    Attributes:
        targets: (W B, D) the targets to learn from. Those kept have their gradient, those put in have none.
        replaced: (W B,) whether a target is another's; ``None`` from a sampler that never replaces any.
        chosen: (W B,) the utterances whose embeddings were put in, -1 where that is no single utterance's
            or nothing was put in; ``None`` as above.
        offered: (W B, D) the targets as they came, for the sampler to store once the step was learnt from;
            ``None`` if it stores none.
        groups: what leaves utterances out of the negatives; ``None``: all others are negatives.
    """

    targets: Tensor
    replaced: Tensor | None = None
    chosen: Tensor | None = None
    offered: Tensor | None = None
    groups: Groups | None = None

    def related(self, ids: Tensor, others: Tensor | None = None) -> Tensor | None:
        """Return which utterances are no negatives of which; ``None``: all others are.

        Args:
            ids: (W B,) the utterances of the step, gathered from all ranks.
            others: (Q,) the utterances in a framework's queue of negatives, -1 for none.

        Returns:
            (W B, W B) by default, with a false diagonal; (W B, Q) for ``others``, where an utterance is
            no negative of itself either.
        """
        return None if self.groups is None else self.groups.related(ids, others)


class Sampler(Protocol):
    """A positive sampler, as a framework sees it."""

    def __call__(self, ids: Tensor, targets: Tensor, /) -> Swap:
        """Return what becomes of the targets (B, D) of this rank's utterances ``ids`` (B,)."""
        ...


class Step(NamedTuple):
    """What a framework makes of a batch.

    Attributes:
        loss: a scalar to minimise.
        metrics: detached scalars to log.
        swap: what the positive sampler returned; ``None`` in a framework that asks none. The loop has the
            sampler store what it was offered, and counts the pseudo-positives.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    swap: Swap | None = None

    def detached(self) -> Step:
        """Return the same without a gradient."""
        swap = self.swap and replace(self.swap, targets=self.swap.targets.detach())
        return Step(self.loss.detach(), self.metrics, swap)
