"""Error rates of a verification trial list: EER and minDCF.

A trial is accepted if its score is at or above the threshold. Thresholds are the *distinct* scores, so the
order of tied trials changes nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError, ModelError

__all__ = [
    "EER",
    "Rates",
    "SortedTrials",
    "eer",
    "eer_of_counts",
    "error_rates",
    "min_dcf",
]

Floats = NDArray[np.float64]
Method = Literal["nearest", "interpolate"]
Counts = Callable[[int], tuple[int, int]]
"""Index of a threshold -> (missed targets, accepted impostors)."""


@dataclass(frozen=True, slots=True, eq=False)
class Rates:
    """Error rates at rising thresholds; the first accepts all trials, the last (``inf``) accepts none.

    Attributes:
        thresholds: (K + 1,) the K distinct scores, then infinity.
        fnr: (K + 1,) fraction of the target trials that are rejected; rises from 0 to 1.
        fpr: (K + 1,) fraction of the impostor trials that are accepted; falls from 1 to 0.
    """

    thresholds: Floats
    fnr: Floats
    fpr: Floats


@dataclass(frozen=True, slots=True)
class EER:
    """Equal error rate and its threshold.

    Attributes:
        value: a fraction, 0.05 for 5 %.
        threshold: accept at or above; always finite.
    """

    value: float
    threshold: float


class SortedTrials:
    """Trials sorted once by score and grouped by distinct score."""

    def __init__(self, scores: ArrayLike, labels: ArrayLike) -> None:
        score, label = _check(scores, labels)
        self.order = np.argsort(score, kind="stable")
        score, self.label = score[self.order], label[self.order]
        ends = np.flatnonzero(np.append(score[1:] != score[:-1], True)) + 1  # (K,) one past each score's last
        self.below = np.append(0, ends)  # (K + 1,) trials below each threshold
        self.thresholds = np.append(score[ends - 1], np.inf)  # (K + 1,)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (K + 1,) the missed targets and (K + 1,) the accepted impostors at each threshold."""
        missed = np.append(0, np.cumsum(self.label, dtype=np.int64))[self.below]
        rejected = self.below - missed
        return missed, rejected[-1] - rejected


def _check(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    score, label = np.asarray(scores, np.float64), np.asarray(labels)
    if score.ndim != 1 or score.shape != label.shape:
        raise IdemvoxError(
            f"need one score and one label per trial, got scores {score.shape} and labels {label.shape}"
        )
    if not np.isfinite(score).all():
        bad = int(np.count_nonzero(~np.isfinite(score)))
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


def error_rates(scores: ArrayLike, labels: ArrayLike) -> Rates:
    """Return both error rates at every distinct threshold, in O(n log n).

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
    missed, accepted = trials.counts()
    return Rates(trials.thresholds, missed / missed[-1], accepted / accepted[0])


def eer_of_counts(thresholds: Floats, counts: Counts, method: Method) -> EER:
    """Return the EER from counts, by bisection: FNR - FPR never falls. Compared in exact integers."""
    targets, impostors = counts(len(thresholds) - 1)[0], counts(0)[1]

    def gap(number: int) -> int:  # FNR - FPR, times both counts
        missed, accepted = counts(number)
        return missed * impostors - accepted * targets

    after = bisect_left(range(len(thresholds)), 0, key=gap)  # first FNR >= FPR; at least 1, as gap(0) < 0
    before = after - 1
    finite = thresholds[after]
    if np.isinf(finite):
        finite = np.nextafter(thresholds[before], np.inf)
    if method == "interpolate":
        part = -gap(before) / (gap(after) - gap(before))  # in (0, 1]
        missed = counts(before)[0]
        value = (missed + part * (counts(after)[0] - missed)) / targets
        return EER(value, float(thresholds[before] + part * (finite - thresholds[before])))
    if method != "nearest":
        raise IdemvoxError(f"unknown EER method {method!r}; have: nearest, interpolate")
    best, threshold = (after, finite) if gap(after) <= -gap(before) else (before, thresholds[before])
    missed, accepted = counts(best)
    return EER(max(missed / targets, accepted / impostors), float(threshold))


def eer(scores: ArrayLike, labels: ArrayLike, method: Method = "nearest") -> EER:
    """Return the equal error rate, as a fraction, with its threshold.

    ``"nearest"``, the default, is what the field's toolkits print and what published numbers mean: the larger
    of the two rates at the threshold where |FNR - FPR| is smallest (at a tie, the higher threshold).
    ``"interpolate"`` interpolates linearly between the two thresholds where FNR and FPR cross. It is never
    above ``"nearest"``. The two differ visibly only on small lists or with many tied scores: if all scores
    are equal, the first gives 1 and the second 0.5.

    >>> eer([0.1, 0.3, 0.6, 0.2, 0.7, 0.9], [0, 0, 0, 1, 1, 1])
    EER(value=0.3333333333333333, threshold=0.6)
    """
    trials = SortedTrials(scores, labels)
    missed, accepted = trials.counts()
    return eer_of_counts(trials.thresholds, lambda k: (int(missed[k]), int(accepted[k])), method)


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
    if not 0 < p_target < 1 or c_miss <= 0 or c_fa <= 0:
        raise IdemvoxError("minDCF needs 0 < p_target < 1 and costs above 0")
    rates = error_rates(scores, labels)
    miss, false_accept = c_miss * p_target, c_fa * (1 - p_target)
    return float(np.min(miss * rates.fnr + false_accept * rates.fpr) / min(miss, false_accept))
