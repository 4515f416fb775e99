"""Error rates of a verification trial list: EER, detection costs and the DET curve.

A trial is accepted if its score is at or above the threshold. Thresholds are the *distinct* scores, so the
order of tied trials changes nothing. Functions that end in ``_of`` take trials that are already sorted; to
compute several metrics of one list, sort once: ``trials = counts.SortedTrials(scores, labels)``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from idemvox.errors import IdemvoxError
from idemvox.verification.counts import SortedTrials
from idemvox.verification.hull import hull_of

__all__ = [
    "EER",
    "Costs",
    "Method",
    "Rates",
    "act_dcf",
    "act_dcf_of",
    "det_curve",
    "det_curve_of",
    "eer",
    "eer_of",
    "error_rates",
    "min_dcf",
    "min_dcf_of",
]

Floats = NDArray[np.float64]
Method = Literal["nearest", "interpolate", "hull"]
_LOWEST = 1e-7  # the DET curve is sampled from this rate on


@dataclass(frozen=True, slots=True)
class Costs:
    """What errors cost and how often targets come (NIST's detection cost function).

    Attributes:
        p_target: prior probability of a target trial, strictly between 0 and 1; usually 0.01 or 0.05.
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting an impostor.
    """

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.p_target < 1 and 0 < self.c_miss < math.inf and 0 < self.c_fa < math.inf):
            raise IdemvoxError("a detection cost needs 0 < p_target < 1 and costs above 0")

    @property
    def threshold(self) -> float:
        """Bayes threshold: accepting a trial with this log-likelihood ratio or more costs least.

        >>> round(Costs(0.01).threshold, 4)
        4.5951
        """
        return math.log(self.c_fa * (1 - self.p_target)) - math.log(self.c_miss * self.p_target)

    def of(self, fnr: Any, fpr: Any) -> Any:
        """Return the cost of error rates, divided by that of the better of accepting all and none."""
        miss, false_accept = self.c_miss * self.p_target, self.c_fa * (1 - self.p_target)
        return (miss * fnr + false_accept * fpr) / min(miss, false_accept)


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Error rates at rising thresholds; the last (``inf``) accepts none.

    Attributes:
        thresholds: (K + 1,) distinct scores, then infinity.
        fnr: (K + 1,) fraction of the target trials that are rejected; rises to 1.
        fpr: (K + 1,) fraction of the impostor trials that are accepted; falls to 0.
    """

    thresholds: Floats
    fnr: Floats
    fpr: Floats

    @property
    def probits(self) -> tuple[Floats, Floats]:
        """(K + 1,) FPR and (K + 1,) FNR on the axes of a DET plot (normal deviates); infinite at 0 and 1."""
        return ndtri(self.fpr), ndtri(self.fnr)


@dataclass(frozen=True, slots=True)
class EER:
    """Equal error rate and its threshold.

    Attributes:
        value: a fraction, 0.05 for 5 %.
        threshold: accept at or above; always finite.
    """

    value: float
    threshold: float


def error_rates(scores: ArrayLike, labels: ArrayLike) -> Rates:
    """Return both error rates at every distinct threshold; the first threshold accepts all trials.

    The result is as large as the list; :func:`det_curve` gives a curve to plot.

    Args:
        scores: (N,) finite numbers; higher means more similar.
        labels: (N,) 1 or True for target trials (same speaker), 0 or False for impostor trials.

    Raises:
        IdemvoxError: a score is NaN or infinite, or there are no targets or no impostors.

    >>> rates = error_rates([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
    >>> rates.fnr.tolist(), rates.fpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [1.0, 0.5, 0.0, 0.0])
    """
    trials = SortedTrials(scores, labels)
    return _rates(trials, np.append(trials.targets, trials.impostors))


def _rates(trials: SortedTrials, thresholds: NDArray[Any]) -> Rates:
    """Return the rates at the distinct ones of some scores, and at infinity."""
    distinct = np.append(np.unique(thresholds), thresholds.dtype.type(np.inf))
    missed, accepted = trials.at(distinct)
    targets, impostors = trials.totals
    return Rates(distinct.astype(np.float64), missed / targets, accepted / impostors)


def det_curve(scores: ArrayLike, labels: ArrayLike, points: int = 500) -> Rates:
    """Return at most about ``2 * points`` points of the DET curve, evenly spaced on its axes.

    Each has the exact rates of a distinct threshold; :attr:`Rates.probits` gives the values to plot. A list
    with no more distinct scores than that keeps all its thresholds.

    Args:
        scores: (N,) as in :func:`error_rates`.
        labels: (N,) as in :func:`error_rates`.
        points: points along each of the two axes.
    """
    return det_curve_of(SortedTrials(scores, labels), points)


def det_curve_of(trials: SortedTrials, points: int = 500) -> Rates:
    """Return the curve of :func:`det_curve`."""
    fractions = ndtr(np.linspace(ndtri(_LOWEST), -ndtri(_LOWEST), points))
    chosen = []
    for side in (trials.targets, trials.impostors):
        if len(side) > points:
            chosen.append(side[np.round(fractions * (len(side) - 1)).astype(np.int64)])
        else:
            chosen.append(side)
    return _rates(trials, np.concatenate(chosen))


def eer(scores: ArrayLike, labels: ArrayLike, method: Method = "nearest") -> EER:
    """Return the equal error rate, as a fraction, with its threshold.

    ``"nearest"``, the default, is what the field's toolkits print and what published numbers mean: the larger
    of the two rates at the threshold where |FNR - FPR| is smallest (at a tie, the higher threshold).
    ``"interpolate"`` interpolates linearly between the two thresholds where FNR and FPR cross. It is never
    above ``"nearest"``. ``"hull"`` is where they cross on the convex hull of the curve (ROCCH, as in the
    BOSARIS toolkit); never above ``"interpolate"``, and at most 0.5. The three differ visibly only on small
    lists or with many tied scores: if all scores are equal, the first gives 1 and the others 0.5.

    >>> eer([0.1, 0.3, 0.6, 0.2, 0.7, 0.9], [0, 0, 0, 1, 1, 1])
    EER(value=0.3333333333333333, threshold=0.6)
    """
    return eer_of(SortedTrials(scores, labels), method)


def eer_of(trials: SortedTrials, method: Method = "nearest") -> EER:
    """Return the EER, by bisection: FNR - FPR never falls. Rates are compared in exact integers."""
    if method not in get_args(Method):
        raise IdemvoxError(f"unknown EER method {method!r}; have: {', '.join(get_args(Method))}")
    targets, impostors = trials.totals

    def gap(missed: int, accepted: int) -> int:  # FNR - FPR, times both counts
        return missed * impostors - accepted * targets

    def counts(threshold: Any) -> tuple[int, int]:
        missed, accepted = trials.at(threshold)
        return int(missed), int(accepted)

    before, after = _crossing(trials, lambda threshold: gap(*counts(threshold)))
    (missed, accepted), (more_missed, fewer_accepted) = counts(before), counts(after)
    low, high = gap(missed, accepted), gap(more_missed, fewer_accepted)
    last, first = float(before), float(after)
    if math.isinf(first):
        first = math.nextafter(last, math.inf)
    if method == "nearest":
        if high <= -low:
            return EER(max(more_missed / targets, fewer_accepted / impostors), first)
        return EER(max(missed / targets, accepted / impostors), last)
    part = -low / (high - low)  # in (0, 1]
    threshold = last + part * (first - last)
    if method == "interpolate":
        return EER((missed + part * (more_missed - missed)) / targets, threshold)
    hull = hull_of(trials)
    corner = bisect_left(
        range(len(hull.missed)), 0, key=lambda k: gap(int(hull.missed[k]), int(hull.accepted[k]))
    )
    (m0, m1), (a0, a1) = hull.missed[corner - 1 : corner + 1], hull.accepted[corner - 1 : corner + 1]
    low, high = gap(int(m0), int(a0)), gap(int(m1), int(a1))
    return EER((int(m0) + -low / (high - low) * int(m1 - m0)) / targets, threshold)


def _crossing(trials: SortedTrials, gap: Any) -> tuple[Any, Any]:
    """Return the last distinct score where ``gap`` is below 0, and the next threshold, perhaps infinity."""
    sides = (trials.targets, trials.impostors)
    after = trials.targets.dtype.type(np.inf)
    for side in sides:
        if (first := bisect_left(side, 0, key=gap)) < len(side):
            after = min(after, side[first])
    below = [side[k - 1] for side in sides if (k := int(np.searchsorted(side, after))) > 0]
    return max(below), after


def min_dcf(
    scores: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the smallest normalised detection cost over all thresholds (NIST), between 0 and 1.

    min over t of (c_miss p FNR(t) + c_fa (1 - p) FPR(t)) / min(c_miss p, c_fa (1 - p)), where the
    thresholds include accepting all and accepting none. State ``p_target`` with every printed value.

    Args:
        scores: (N,) as in :func:`error_rates`.
        labels: (N,) as in :func:`error_rates`.
        p_target: prior probability of a target trial, strictly between 0 and 1 (usually 0.01 or 0.05).
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting an impostor.
    """
    costs = Costs(p_target, c_miss, c_fa)
    return min_dcf_of(SortedTrials(scores, labels), costs)


def min_dcf_of(trials: SortedTrials, costs: Costs) -> float:
    """Return the smallest normalised cost over all thresholds."""
    targets, impostors = trials.totals
    least = costs.of(1.0, 0.0)  # accept none
    for missed, accepted in trials.corners():
        least = min(least, float(np.min(costs.of(missed / targets, accepted / impostors))))
    return float(least)


def act_dcf(
    llrs: ArrayLike, labels: ArrayLike, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the normalised detection cost at the Bayes threshold, for scores that are log-likelihood ratios.

    The threshold is log(c_fa (1 - p) / (c_miss p)); it is not chosen on these trials, so bad calibration
    shows: the cost may be far above 1. The difference to :func:`min_dcf` is the calibration loss.

    Args:
        llrs: (N,) natural log-likelihood ratios, finite.
        labels: (N,) as in :func:`error_rates`.
        p_target: as for :func:`min_dcf`; the same for ``c_miss`` and ``c_fa``.
        c_miss: cost of rejecting a target.
        c_fa: cost of accepting an impostor.

    >>> act_dcf([-5.0, 3.0, 5.0, 6.0], [0, 0, 1, 1], 0.01), act_dcf([-5.0, 3.0, 4.0, 6.0], [0, 0, 1, 1], 0.01)
    (0.0, 0.5)
    """
    costs = Costs(p_target, c_miss, c_fa)
    return act_dcf_of(SortedTrials(llrs, labels), costs)


def act_dcf_of(trials: SortedTrials, costs: Costs) -> float:
    """Return the normalised cost at the Bayes threshold."""
    kind = trials.targets.dtype.type
    threshold = kind(costs.threshold)
    if (
        float(threshold) < costs.threshold
    ):  # float32 rounded it down: a score equal to it lies below the threshold
        threshold = np.nextafter(threshold, kind(np.inf))
    missed, accepted = trials.at(threshold)
    targets, impostors = trials.totals
    return float(costs.of(missed / targets, accepted / impostors))
