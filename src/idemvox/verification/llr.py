"""How much information log-likelihood ratios carry: Cllr, and minCllr after the best possible calibration.

Brummer & du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 20,
2006.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from idemvox.verification.counts import Scores, SortedTrials
from idemvox.verification.hull import hull_of

__all__ = ["cllr", "cllr_of", "min_cllr", "min_cllr_of"]

_BLOCK = 1 << 20  # scores computed together; affects memory and the last bits only


def cllr(llrs: ArrayLike, labels: ArrayLike) -> float:
    """Return the cost of log-likelihood ratios, in bits per trial.

    (mean over targets of log2(1 + exp(-llr)) + mean over impostors of log2(1 + exp(llr))) / 2. It is 0 for
    certain and right, 1 for scores that say nothing (all 0), and without limit for certain and wrong.

    Args:
        llrs: (N,) natural log-likelihood ratios, finite. Cosines are none; calibrate them first.
        labels: (N,) 1 or True for target trials (same speaker), 0 or False for impostor trials.

    >>> cllr([0.0, 0.0], [0, 1])
    1.0
    """
    return cllr_of(SortedTrials(llrs, labels))


def cllr_of(trials: SortedTrials) -> float:
    """Return the Cllr of sorted trials; as they are sorted, their order cannot change a bit of it."""
    return (_surprise(trials.targets, -1.0) + _surprise(trials.impostors, 1.0)) / (2 * math.log(2))


def _surprise(llrs: Scores, sign: float) -> float:
    """Return the mean of log(1 + exp(sign * llr)), block by block in float64."""
    sums = [
        float(np.logaddexp(0.0, sign * llrs[start : start + _BLOCK].astype(np.float64)).sum())
        for start in range(0, len(llrs), _BLOCK)
    ]
    return math.fsum(sums) / len(llrs)


def min_cllr(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the Cllr after the best rising map of the scores to log-likelihood ratios, between 0 and 1.

    The map is found on these very trials, by pool-adjacent-violators (:mod:`~idemvox.verification.hull`). The
    difference between Cllr and this is the calibration loss.

    Args:
        scores: (N,) finite numbers; higher means more similar.
        labels: (N,) as in :func:`cllr`.
    """
    return min_cllr_of(SortedTrials(scores, labels))


def min_cllr_of(trials: SortedTrials) -> float:
    """Return the minCllr of sorted trials."""
    hull = hull_of(trials)
    targets, impostors = (pool / total for pool, total in zip(hull.pools, trials.totals, strict=True))
    both = targets + impostors  # of a pool: log(1 + exp(-llr)) = log(both / targets); 0 log 0 counts as 0
    with np.errstate(divide="ignore", invalid="ignore"):
        costs = [np.where(share > 0, share * np.log(both / share), 0.0) for share in (targets, impostors)]
    return float(sum(cost.sum() for cost in costs)) / (2 * math.log(2))
