"""Fitting a calibration to trials."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import IdemvoxError, ModelError
from idemvox.verification.calibration import Calibration, Side, Term, side_values
from idemvox.verification.conditions import Conditions
from idemvox.verification.counts import SortedTrials
from idemvox.verification.logistic import fit_logistic
from idemvox.verification.operating import operating_points

__all__ = ["fit_calibration"]

Floats = NDArray[np.float64]


def fit_calibration(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    prior: float = 0.01,
    durations: ArrayLike | None = None,
    quality: ArrayLike | None = None,
    speakers: tuple[ArrayLike, ArrayLike] | None = None,
    scoring: str = "cosine",
    trials: str = "trials",
    conditions: Conditions | None = None,
    draws: int = 200,
    seed: int = 0,
) -> Calibration:
    """Fit the logistic regression of :class:`Calibration`, weighted for a prior.

    Args:
        scores: (N,) finite scores; higher means more similar.
        labels: (N,) 1 or True for target trials, 0 or False for impostor trials.
        prior: probability of a target trial where the calibration matters most. Likelihood ratios do not
            depend on a prior, but a fit is best near one.
        durations: (N, 2) seconds of speech of both sides; ``None`` for a calibration without.
        quality: (N, 2) quality of both sides, such as a signal-to-noise ratio in dB; ``None`` for a
            calibration without.
        speakers: (N,) speakers of the first sides and (N,) of the second sides, for the intervals of
            thresholds; ``None`` leaves them out.
        scoring: description of the scorer, ``str(scorer)``.
        trials: name of the trials.
        conditions: what the recordings are like, for warnings.
        draws: bootstrap draws for the intervals.
        seed: makes the draws repeatable.

    Raises:
        IdemvoxError: scores, labels or side information cannot be used.
        ModelError: same-speaker trials do not score higher than others.
    """
    if not 0 < prior < 1:
        raise IdemvoxError(f"the prior of a calibration is between 0 and 1, got {prior:g}")
    SortedTrials(scores, labels)  # raises if they cannot be used
    score, label = np.asarray(scores, np.float64), np.asarray(labels).astype(np.bool_)
    sides: list[tuple[Side, Floats]] = []
    if durations is not None:
        sides += [(side, side_values(side, durations, len(score))) for side in ("shorter", "longer")]
    if quality is not None:
        sides.append(("quality", side_values("quality", quality, len(score))))
    offset, slope, *weights = fit_logistic(np.stack([score, *(s for _, s in sides)], axis=1), label, prior)
    if slope <= 0:
        raise ModelError(
            f"trials of the same speaker do not score higher than others (slope {slope:.3g}), so the scores"
            " cannot be calibrated: check that the labels are not swapped, and evaluate the model"
        )
    terms = tuple(
        Term(side, weight, float(values.mean()), float(values.min()), float(values.max()))
        for (side, values), weight in zip(sides, weights, strict=True)
    )
    llr = offset + slope * score + sum((t.weight * v for t, (_, v) in zip(terms, sides, strict=True)), 0.0)
    points, count = operating_points(llr, label, speakers, draws, seed)
    targets = int(np.count_nonzero(label))
    return Calibration(
        *(offset, slope, terms, prior, scoring, trials, targets, len(label) - targets, count, points),
        conditions,
    )
