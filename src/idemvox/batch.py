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
    """Utterances of a training step, each with named views.

    Attributes:
        ids: (B,) int64 positions in the training manifest; positives and negatives are defined by them.
        views: name -> (B, n, T) samples in [-1, 1]: n crops of each utterance.
        classes: (B,) class numbers for supervised frameworks, -1 if unknown; ``None`` for all others.
    """

    ids: Tensor
    views: Mapping[str, Tensor]
    classes: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of utterances that probably share a voice, so that none is a negative of another.

    Attributes:
        of: (N,) the group of each utterance in the manifest, from 0.
        given: (B,) the group of each utterance's pseudo-positive in the step, ``none`` if it has none.
        none: the number that means no group.
    """

    of: Tensor
    given: Tensor
    none: int

    def related(self, ids: Tensor, others: Tensor | None = None) -> Tensor:
        """Return which utterances share a group; see :meth:`Swap.related`."""
        if len(ids) != len(self.given):
            raise ValueError(f"the step has {len(self.given)} utterances (of all ranks), not {len(ids)}")
        of, given = self.of[ids], self.given  # (B,)
        rows = [
            torch.where(group == self.none, -1, group)[:, None] for group in (of, given)
        ]  # -1: equal to no group
        if others is not None:
            known = self.of[others]  # (Q,)
            shared = (rows[0] == known) | (rows[1] == known) | (ids[:, None] == others)
            return shared & (others >= 0)
        crossed = rows[0] == given
        related: Tensor = (rows[0] == of) | crossed | crossed.T | (rows[1] == given)
        return related.fill_diagonal_(False)


@dataclass(frozen=True, slots=True)
class Swap:
    """The result of a positive sampler for a step. Rows are the utterances of all ranks, W B of them.

    Attributes:
        targets: (W B, D) the targets to train on. Original targets keep their gradient, pseudo-positives have
            none.
        replaced: (W B,) whether a target was replaced; ``None`` from a sampler that never replaces any.
        chosen: (W B,) the utterances whose embeddings are the pseudo-positives; -1 if the target was not
            replaced, or not by a single utterance's embedding; ``None`` as above.
        offered: (W B, D) the original targets, for the sampler to store after the step; ``None`` if it stores
            none.
        groups: groups to exclude from the negatives; ``None`` excludes none.
    """

    targets: Tensor
    replaced: Tensor | None = None
    chosen: Tensor | None = None
    offered: Tensor | None = None
    groups: Groups | None = None

    def related(self, ids: Tensor, others: Tensor | None = None) -> Tensor | None:
        """Return which pairs of utterances to exclude from the negatives; ``None`` excludes none.

        Args:
            ids: (W B,) the utterances of the step, gathered from all ranks.
            others: (Q,) the utterances in a framework's queue of negatives, -1 for none.

        Returns:
            (W B, W B) by default, with a false diagonal; (W B, Q) for ``others``, which also excludes an
            utterance's own entries.
        """
        return None if self.groups is None else self.groups.related(ids, others)


class Sampler(Protocol):
    """The interface of a positive sampler to a framework."""

    def __call__(self, ids: Tensor, targets: Tensor, /) -> Swap:
        """Return the swap for the targets (B, D) of this rank's utterances ``ids`` (B,)."""
        ...


class Step(NamedTuple):
    """The result of a framework for a batch.

    Attributes:
        loss: a scalar to minimise.
        metrics: detached scalars to log.
        swap: the result of the positive sampler; ``None`` from a framework without one. The loop passes it
            back to the sampler to store the targets, and counts the pseudo-positives.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = MappingProxyType({})
    swap: Swap | None = None

    def detached(self) -> Step:
        """Return the same step without gradients."""
        swap = self.swap and replace(self.swap, targets=self.swap.targets.detach())
        return Step(self.loss.detach(), self.metrics, swap)
