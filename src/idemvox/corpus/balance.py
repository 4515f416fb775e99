"""Batches in which each class has as many utterances: which ones, as a function of (seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idemvox.arrays import Numbers
from idemvox.errors import RecipeError

__all__ = ["Balance", "BalancedOrder"]


@dataclass(frozen=True, slots=True)
class Balance:
    """What a supervised framework may ask of its batches.

    Attributes:
        utterances: M of each class that is in a batch.
        most: utterances of a class in an epoch.
    """

    utterances: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.utterances <= self.most:
            raise RecipeError(f"impossible {self}: it needs 1 <= utterances <= most")


class BalancedOrder:
    """Epochs of as many batches as there can be of P classes x M utterances, each class once in a batch.

    Of each class a new random choice of at most ``balance.most`` utterances is dealt into groups of M, each
    of which comes once in an epoch or, where the others are too few to go with it, not at all.  A class of
    fewer than M is left out, and who has none.

    Args:
        classes: (N,) numbers, -1 where unknown.
        batch: utterances per step and rank.
        balance: M and the most in an epoch.
        seed: of the run.
        world: ranks; a batch of all of them has P x M utterances, and each rank's part whole classes.

    Raises:
        RecipeError: if no whole number of classes makes a rank's batch, or there are fewer than P.
    """

    steps: int
    """Batches of an epoch."""

    def __init__(self, classes: Numbers, batch: int, balance: Balance, seed: int, world: int = 1) -> None:
        m = balance.utterances
        order = np.argsort(classes, kind="stable")
        found = np.split(order, np.flatnonzero(np.diff(classes[order])) + 1)
        self._whose = [ids for ids in found if len(ids) >= m and classes[ids[0]] >= 0]
        self._groups = np.array([min(len(ids), balance.most) // m for ids in self._whose], np.int64)
        self._classes, self._utterances, self._seed = world * batch // m, m, seed
        if batch % m or len(self._whose) < self._classes:
            raise RecipeError(
                f"a batch of {world * batch} utterances cannot be {m} of each of its classes: make "
                f"training.batch a multiple of {m * world}, at most {m * len(self._whose)}, as "
                f"{len(self._whose)} classes have {m} utterances"
            )
        # as many steps as leave no batch short, though a class has at most one group in each
        self.steps = int(self._groups.sum()) // self._classes
        while (fewer := int(np.minimum(self._groups, self.steps).sum()) // self._classes) < self.steps:
            self.steps = fewer

    def epoch(self, epoch: int) -> Numbers:
        """Return the utterances (steps, P x M) of an epoch; those of a class are beside each other."""
        rng = np.random.default_rng([self._seed, epoch, 0xBA1A])
        p, m = self._classes, self._utterances
        ids = np.concatenate(
            [rng.permutation(own)[: n * m] for own, n in zip(self._whose, self._groups, strict=True)]
        )
        groups = ids.reshape(-1, m)
        next_group = self._groups.cumsum() - self._groups
        left = rng.multivariate_hypergeometric(np.minimum(self._groups, self.steps), p * self.steps)
        rows = np.empty((self.steps, p, m), np.int64)
        for step in range(self.steps):
            # every class with the probability left / remaining steps: those points of a line of all that is
            # left which are as far from each other as there are steps remaining fall on P different classes
            remaining = self.steps - step
            line = rng.permutation(len(left))
            points = rng.integers(remaining) + remaining * np.arange(p)
            chosen = line[np.searchsorted(left[line].cumsum(), points, side="right")]
            rows[step] = groups[next_group[chosen]]
            next_group[chosen] += 1
            left[chosen] -= 1
        return rows.reshape(self.steps, p * m)
