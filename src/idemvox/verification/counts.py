"""Trials sorted once by score, and the errors counted at thresholds; every metric starts from here.

A trial is accepted if its score is at or above the threshold. Thresholds are the *distinct* scores, so the
order of tied trials changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError, ModelError

__all__ = ["Ints", "Scores", "SortedTrials"]

Scores = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
_BLOCK = 1 << 20  # targets whose thresholds are looked at together


class SortedTrials:
    """The scores of the target trials and of the impostor trials, each sorted in place in a copy.

    float32 scores stay float32, so the copies of 40 million take 160 MB; anything else becomes float64.

    Attributes:
        targets: (M,) scores of the target trials, rising.
        impostors: (N,) scores of the impostor trials, rising.
        block: targets whose thresholds :meth:`corners` looks at together; affects memory only.

    Raises:
        IdemvoxError: a score is NaN or infinite, or there are no targets or no impostors.
    """

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        score, label = _check(scores, labels)
        self.targets, self.impostors = score[label], score[~label]
        self.targets.sort()
        self.impostors.sort()
        self.block = _BLOCK

    def missed(self, position: Any) -> Any:
        """Return how many targets are missed if the first ``position`` of them are rejected."""
        return position

    def rejected(self, position: Any) -> Any:
        """Return how many impostors are rejected if the first ``position`` of them are."""
        return position

    @property
    def totals(self) -> tuple[int, int]:
        """Number of targets and of impostors."""
        return int(self.missed(len(self.targets))), int(self.rejected(len(self.impostors)))

    def at(self, thresholds: Any) -> tuple[Any, Any]:
        """Return the missed targets and the accepted impostors at thresholds, one or an array.

        They must have the dtype of the scores, else NumPy copies all scores.
        """
        missed = self.missed(np.searchsorted(self.targets, thresholds))
        return missed, self.totals[1] - self.rejected(np.searchsorted(self.impostors, thresholds))

    def positions(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield, block by block, where each distinct target score stands among targets and impostors.

        These are the only thresholds at which the cheapest decision or a corner of the convex hull can lie:
        from one target score up to the next, the misses stay and the false accepts fall.
        """
        for start in range(0, len(self.targets), self.block):
            part = self.targets[start : start + self.block]
            new = np.ones(len(part), np.bool_)  # differs from the score before it
            new[1:] = part[1:] != part[:-1]
            new[0] = start == 0 or part[0] != self.targets[start - 1]
            yield start + np.flatnonzero(new), np.searchsorted(self.impostors, part[new]).astype(np.int64)

    def corners(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield, block by block, (missed, accepted) at each distinct target score, rising."""
        impostors = self.totals[1]
        for target, impostor in self.positions():
            yield self.missed(target), impostors - self.rejected(impostor)


def _check(scores: ArrayLike, labels: ArrayLike) -> tuple[Scores, NDArray[np.bool_]]:
    score, label = np.asarray(scores), np.asarray(labels)
    if score.dtype != np.float32:
        score = score.astype(np.float64, copy=False)
    if score.ndim != 1 or score.shape != label.shape:
        raise IdemvoxError(
            f"need one score and one label per trial, got scores {score.shape} and labels {label.shape}"
        )
    if bad := len(score) - int(np.count_nonzero(np.isfinite(score))):
        raise ModelError(
            f"{bad} of {len(score)} scores are NaN or infinite; the model has probably diverged:"
            " evaluate an earlier checkpoint"
        )
    if label.dtype != np.bool_:
        if not np.isin(label, (0, 1)).all():
            raise CorpusError("trial labels must be 1 (target, same speaker) or 0 (impostor)")
        label = label.astype(np.bool_)
    targets = int(np.count_nonzero(label))
    if targets == 0 or targets == len(label):
        have, lack = ("impostor", "target") if targets == 0 else ("target", "impostor")
        raise CorpusError(
            f"all {len(label)} trials are {have} trials; error rates need {lack} trials too:"
            " add some to the list"
        )
    return score, label
