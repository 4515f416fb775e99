"""Logistic regression weighted for a prior, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import ModelError

__all__ = ["RIDGE", "fit_logistic"]

Floats = NDArray[np.float64]

RIDGE = 1e-4
"""Penalty on squared weights of standardised columns, as a share of the rarer class's prior.

It keeps the weights finite if a threshold separates targets and impostors without error; otherwise it changes
them by less than one part in a hundred.
"""
_STEPS = 100
_ENOUGH = 1e-22  # squared Newton decrement below which further steps change nothing


def fit_logistic(columns: Floats, labels: NDArray[np.bool_], prior: float) -> list[float]:
    """Return the offset and the weight of each column of the best log-likelihood ratio.

    Minimises the prior-weighted cross-entropy of the log-likelihood ratios l (Brümmer and du Preez, 2006)

        p / T sum over targets of log(1 + exp(-l - logit p))
        + (1 - p) / I sum over impostors of log(1 + exp(l + logit p))

    plus :data:`RIDGE` / 2 * min(p, 1 - p) times the sum of the squared weights of the columns, each first
    scaled to variance 1. The sum is strictly convex, so there is one solution.

    Args:
        columns: (N, D) scores first, then side information.
        labels: (N,) True for targets; both classes are present.
        prior: p.

    Raises:
        ModelError: all scores are equal.
    """
    varies = columns.max(axis=0) > columns.min(axis=0)
    if not varies[0]:
        raise ModelError("all scores are equal, so they cannot be calibrated: evaluate the model")
    mean, spread = columns.mean(axis=0), np.where(varies, columns.std(axis=0), 1.0)
    standard = np.where(varies, (columns - mean) / spread, 0.0)  # a mean of equal values is rounded
    x = np.concatenate([np.ones((len(columns), 1)), standard], axis=1)  # (N, D + 1)
    targets = np.count_nonzero(labels)
    weight = np.where(labels, prior / targets, (1 - prior) / (len(labels) - targets))  # (N,)
    penalty = np.full(x.shape[1], RIDGE * min(prior, 1 - prior))
    penalty[0] = 0.0
    solution = _newton(x * np.where(labels, 1, -1)[:, None], weight, np.log(prior / (1 - prior)), penalty)
    weights = solution[1:] / spread
    return [float(solution[0] - weights @ mean), *map(float, weights)]


def _newton(x: Floats, weight: Floats, logit: float, penalty: Floats) -> Floats:
    """Minimise sum of weight * log(1 + exp(-margin)) + penalty . theta**2 / 2, with margin = x theta + shift.

    Args:
        x: (N, D + 1) columns of targets, and minus the columns of impostors.
        weight: (N,) weight of each trial.
        logit: log-odds of the prior; added to the margin of targets, taken from that of impostors.
        penalty: (D + 1,) ridge of each weight.
    """
    shift = logit * x[:, 0]

    def cost(at: Floats) -> float:
        return float(weight @ np.logaddexp(0, -(x @ at + shift)) + penalty @ at**2 / 2)

    theta = np.zeros(x.shape[1])
    value = cost(theta)
    for _ in range(_STEPS):
        wrong = np.exp(-np.logaddexp(0, x @ theta + shift))  # (N,) 1 / (1 + exp(margin))
        gradient = penalty * theta - x.T @ (weight * wrong)
        curvature = (x.T * (weight * wrong * (1 - wrong))) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        decrement = float(gradient @ step)
        size = 1.0
        while (lower := cost(theta - size * step)) > value - 1e-4 * size * decrement and size > 1e-10:
            size /= 2
        theta, value = theta - size * step, lower
        if decrement < _ENOUGH:
            break
    return theta
