"""Batches in which each speaker has as many utterances: which ones, as a function of (seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idemvox.errors import IdemvoxError

__all__ = ["Balance", "BalancedOrder"]

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Balance:
    """What a supervised framework may ask of its batches.

    Attributes:
        utterances: M of each speaker that is in a batch.
        most: utterances of a speaker in an epoch.
    """

    utterances: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.utterances <= self.most:
            raise IdemvoxError(f"impossible {self}: it needs 1 <= utterances <= most")


class BalancedOrder:
    """Epochs of as many batches as there can be of P speakers x M utterances, each speaker once in a batch.

    Of each speaker a new random choice of at most ``balance.most`` utterances is dealt into groups of M, each
    of which comes once in an epoch or, where the others are too few to go with it, not at all.  Who has fewer
    than M, or no label, is left out.

    Args:
        speakers: (N,) speaker numbers, -1 where unknown.
        batch: utterances per step and rank.
        balance: M and the most in an epoch.
        seed: of the run.
        world: ranks; a batch of all of them has P x M utterances, and each rank's part whole speakers.

    Raises:
        IdemvoxError: if no whole number of speakers makes a rank's batch, or there are fewer than P.
    """

    steps: int
    """Batches of an epoch."""

    def __init__(self, speakers: Numbers, batch: int, balance: Balance, seed: int, world: int = 1) -> None:
        m = balance.utterances
        order = np.argsort(speakers, kind="stable")
        found = np.split(order, np.flatnonzero(np.diff(speakers[order])) + 1)
        self._whose = [ids for ids in found if len(ids) >= m and speakers[ids[0]] >= 0]
        self._groups = np.array([min(len(ids), balance.most) // m for ids in self._whose], np.int64)
        self._speakers, self._utterances, self._seed = world * batch // m, m, seed
        if batch % m or len(self._whose) < self._speakers:
            raise IdemvoxError(
                f"a batch of {world * batch} utterances cannot be {m} of each of its speakers: make "
                f"training.batch a multiple of {m * world}, at most {m * len(self._whose)}, as "
                f"{len(self._whose)} speakers have {m} utterances"
            )
        # as many steps as leave no batch short, though a speaker has at most one group in each
        self.steps = int(self._groups.sum()) // self._speakers
        while (fewer := int(np.minimum(self._groups, self.steps).sum()) // self._speakers) < self.steps:
            self.steps = fewer

    def epoch(self, epoch: int) -> Numbers:
        """Return the utterances (steps, P x M) of an epoch; those of a speaker are beside each other."""
        rng = np.random.default_rng([self._seed, epoch, 0xBA1A])
        p, m = self._speakers, self._utterances
        ids = np.concatenate(
            [rng.permutation(own)[: n * m] for own, n in zip(self._whose, self._groups, strict=True)]
        )
        groups = ids.reshape(-1, m)
        next_group = self._groups.cumsum() - self._groups
        left = rng.multivariate_hypergeometric(np.minimum(self._groups, self.steps), p * self.steps)
        rows = np.empty((self.steps, p, m), np.int64)
        for step in range(self.steps):
            # every speaker with the probability left / remaining steps: those points of a line of all that is
            # left which are as far from each other as there are steps remaining fall on P different speakers
            remaining = self.steps - step
            line = rng.permutation(len(left))
            points = rng.integers(remaining) + remaining * np.arange(p)
            chosen = line[np.searchsorted(left[line].cumsum(), points, side="right")]
            rows[step] = groups[next_group[chosen]]
            next_group[chosen] += 1
            left[chosen] -= 1
        return rows.reshape(self.steps, p * m)
