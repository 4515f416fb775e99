"""Batches with the same number of utterances of each class, as a function of (seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idemvox.arrays import Numbers
from idemvox.errors import RecipeError

__all__ = ["Balance", "BalancedOrder"]


@dataclass(frozen=True, slots=True)
class Balance:
    """The class balance that a supervised framework needs in its batches.

    Attributes:
        utterances: M, the utterances of each class in a batch.
        most: most utterances of a class in an epoch.
    """

    utterances: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.utterances <= self.most:
            raise RecipeError(f"invalid {self}: it needs 1 <= utterances <= most")


class BalancedOrder:
    """Epochs of as many batches as possible, each of P different classes x M utterances.

    For each epoch, at most ``balance.most`` random utterances of each class are split into groups of M. A
    group is used once in the epoch, or not at all if there are too few groups of other classes. Classes with
    fewer than M utterances, and utterances without a class, are left out.

    Args:
        classes: (N,) class numbers, -1 if unknown.
        batch: utterances per step and rank.
        balance: M and the most utterances of a class in an epoch.
        seed: seed of the run.
        world: number of ranks; a batch of all ranks has P x M utterances, and each rank's part complete
            classes.

    Raises:
        RecipeError: a rank's batch is not a multiple of M, or there are fewer than P classes.
    """

    steps: int
    """Number of batches in an epoch."""

    def __init__(self, classes: Numbers, batch: int, balance: Balance, seed: int, world: int = 1) -> None:
        m = balance.utterances
        order = np.argsort(classes, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
        self._members = [ids for ids in members if len(ids) >= m and classes[ids[0]] >= 0]
        self._groups = np.array([min(len(ids), balance.most) // m for ids in self._members], np.int64)
        self._classes, self._utterances, self._seed = world * batch // m, m, seed
        if not self._members:
            raise RecipeError(
                f"no class has {m} utterances, as many as a batch takes of each; lower that number"
            )
        if batch % m or len(self._members) < self._classes:
            raise RecipeError(
                f"a batch of {world * batch} utterances cannot have {m} of each of its classes: make "
                f"training.batch a multiple of {m * world}, at most {m * len(self._members)}, as "
                f"{len(self._members)} classes have {m} utterances"
            )
        # as many steps as fill all batches, with at most one group of a class in each
        self.steps = int(self._groups.sum()) // self._classes
        while (fewer := int(np.minimum(self._groups, self.steps).sum()) // self._classes) < self.steps:
            self.steps = fewer

    def epoch(self, epoch: int) -> Numbers:
        """Return (steps, P x M) the utterances of an epoch; those of a class are adjacent."""
        rng = np.random.default_rng([self._seed, epoch, 0xBA1A])
        p, m = self._classes, self._utterances
        ids = np.concatenate(
            [rng.permutation(ids)[: n * m] for ids, n in zip(self._members, self._groups, strict=True)]
        )
        groups = ids.reshape(-1, m)
        next_group = self._groups.cumsum() - self._groups
        left = rng.multivariate_hypergeometric(np.minimum(self._groups, self.steps), p * self.steps)
        rows = np.empty((self.steps, p, m), np.int64)
        for step in range(self.steps):
            # choose each class with probability (groups left) / (steps remaining): lay all groups left on a
            # line, class by class; points with a distance of `remaining` then fall on P different classes
            remaining = self.steps - step
            line = rng.permutation(len(left))
            points = rng.integers(remaining) + remaining * np.arange(p)
            chosen = line[np.searchsorted(left[line].cumsum(), points, side="right")]
            rows[step] = groups[next_group[chosen]]
            next_group[chosen] += 1
            left[chosen] -= 1
        return rows.reshape(self.steps, p * m)
