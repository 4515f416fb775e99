"""The convex hull of the DET curve, which is also the best calibration of the scores.

Pool-adjacent-violators (PAV) and the convex hull of the ROC are the same thing (Fawcett & Niculescu-Mizil,
"PAV and the ROC convex hull", Machine Learning 68, 2007). Each straight piece of the hull is a group of
scores that PAV pools; its slope is their likelihood ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idemvox.verification.counts import Ints, SortedTrials

__all__ = ["Hull", "hull_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Hull:
    """The C corners of the lower convex hull, from accepting all trials to accepting none.

    Attributes:
        missed: (C,) missed targets; rises from 0 to all of them.
        accepted: (C,) accepted impostors; falls from all of them to 0.
    """

    missed: Ints
    accepted: Ints

    @property
    def pools(self) -> tuple[Ints, Ints]:
        """(C - 1,) targets and (C - 1,) impostors of each pool of scores, by rising score."""
        return np.diff(self.missed), -np.diff(self.accepted)

    @property
    def llrs(self) -> NDArray[np.float64]:
        """(C - 1,) natural logarithm of each pool's likelihood ratio; rises, the ends may be infinite."""
        targets, impostors = self.pools
        with np.errstate(divide="ignore"):
            ratio: NDArray[np.float64] = np.log(targets / self.missed[-1]) - np.log(
                impostors / self.accepted[0]
            )
        return ratio


def hull_of(trials: SortedTrials) -> Hull:
    """Return the convex hull of all thresholds, in exact integers, block by block."""
    targets, impostors = trials.totals
    missed, accepted = np.zeros(1, np.int64), np.full(1, impostors, np.int64)
    for more_missed, fewer_accepted in trials.corners():
        missed, accepted = _convex(np.append(missed, more_missed), np.append(accepted, fewer_accepted))
    return Hull(*_convex(np.append(missed, targets), np.append(accepted, 0)))


def _convex(missed: Ints, accepted: Ints) -> tuple[Ints, Ints]:
    """Return the corners of the hull of a curve that only goes up and left; the ends always stay.

    A point on or above the line between its two neighbours is no corner of the hull, so all such points can
    go at once. When a round takes few of them, the rest are taken one by one.
    """
    moved = np.append(True, (np.diff(missed) != 0) | (np.diff(accepted) != 0))
    missed, accepted = missed[moved], accepted[moved]
    while len(missed) > 2:
        keep = np.ones(len(missed), np.bool_)
        keep[1:-1] = _bends(
            missed[:-2], accepted[:-2], missed[1:-1], accepted[1:-1], missed[2:], accepted[2:]
        )
        kept = int(np.count_nonzero(keep))
        if kept == len(keep):
            return missed, accepted
        missed, accepted = missed[keep], accepted[keep]
        if kept > 0.9 * len(keep):
            return _one_by_one(missed, accepted)
    return missed, accepted


def _bends(m0: Ints, a0: Ints, m1: Ints, a1: Ints, m2: Ints, a2: Ints) -> NDArray[np.bool_]:
    """Whether the curve turns up at the middle point: more targets per impostor after it than before it."""
    bends: NDArray[np.bool_] = (m1 - m0) * (a1 - a2) < (m2 - m1) * (a0 - a1)
    return bends


def _one_by_one(missed: Ints, accepted: Ints) -> tuple[Ints, Ints]:
    """Pool adjacent violators with a stack."""
    stack: list[tuple[int, int]] = []
    for m2, a2 in zip(missed.tolist(), accepted.tolist(), strict=True):
        while len(stack) > 1:
            (m0, a0), (m1, a1) = stack[-2:]
            if (m1 - m0) * (a1 - a2) < (m2 - m1) * (a0 - a1):
                break
            stack.pop()
        stack.append((m2, a2))
    corners = np.array(stack, np.int64)
    return corners[:, 0], corners[:, 1]
