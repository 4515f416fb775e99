"""Score normalisation: how a score compares with the scores of the same recordings against strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cohort_statistics", "normalise"]

_SMALLEST = 1e-6  # standard deviation; a smaller one, such as that of an embedding of zeros, is rounding
_TRIALS = 1 << 20  # normalised at a time


def cohort_statistics(
    scores: NDArray[Any], top: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (N,) the means and (N,) the standard deviations of each utterance's scores against a cohort.

    Args:
        scores: (N, C) of N utterances against C cohort members; may be reordered within rows.
        top: only the highest so many scores of each row count; ``None``, or C and more: all of them.

    >>> mean, deviation = cohort_statistics(np.array([[0.0, 5.0, 1.0, 3.0]]), top=2)
    >>> float(mean[0]), float(deviation[0])
    (4.0, 1.0)
    """
    if top is not None and top < scores.shape[1]:
        scores.partition(scores.shape[1] - top, axis=1)
        scores = scores[:, -top:]
    exact = scores.astype(np.float64)
    return exact.mean(axis=1), np.maximum(exact.std(axis=1), _SMALLEST)


def normalise(
    scores: NDArray[Any],
    first: NDArray[np.integer[Any]],
    second: NDArray[np.integer[Any]],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
) -> None:
    r"""Normalise scores in place by the cohort statistics of both sides: S-norm and adaptive S-norm.

    .. math:: s' = \frac{1}{2} \left( \frac{s - \mu_e}{\sigma_e} + \frac{s - \mu_t}{\sigma_t} \right)

    where :math:`\mu_e` and :math:`\sigma_e` are of the enrolment side's scores against the cohort, and
    :math:`\mu_t` and :math:`\sigma_t` of the test side's. S-norm takes all scores (Shum et al., Odyssey 2010,
    "Unsupervised speaker adaptation based on the cosine similarity for text-independent speaker
    verification"). AS-norm takes each side's highest N; this is "AS-norm1" of Matejka et al. (Interspeech
    2017, "Analysis of score normalization in multilingual speaker recognition"). Deviations divide by N; some
    toolkits divide by N - 1, which multiplies every score by the same number.

    Args:
        scores: (T,) of trials.
        first: (T,) row of each trial's enrolment side in the statistics.
        second: (T,) row of its test side.
        mean: (N,) from :func:`cohort_statistics`.
        deviation: (N,) likewise.
    """
    slope = 0.5 / deviation  # s' = s (a_e + a_t) - (b_e + b_t)
    shift = slope * mean
    for start in range(0, len(scores), _TRIALS):
        part = slice(start, start + _TRIALS)
        e, t = first[part], second[part]
        scores[part] = scores[part] * (slope[e] + slope[t]) - (shift[e] + shift[t])
