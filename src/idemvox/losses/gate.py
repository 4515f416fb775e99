"""Losses that trust some labels more than others: pure functions of tensors.

A classifier learns right labels before wrong ones, so for some epochs the loss tells them apart. Arguments
named ``losses`` are those of single utterances (B,).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LogMixture", "corrected_mean", "crossing", "fit_log_mixture", "kept_mean", "low_share"]

_FLOOR = 1e-6  # least variance of a component


class LogMixture(NamedTuple):
    """Two Gaussians of the log of the losses, the one of low losses first.

    Attributes:
        weights, means, variances: (2,) in fp64.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_densities(self, x: Tensor) -> Tensor:
        """Return (2, N) the log of each weighted density at log losses (N,)."""
        distance = (x.double() - self.means[:, None]).square() / self.variances[:, None]
        scale = self.weights.log() - (2 * math.pi * self.variances).log() / 2
        return scale[:, None] - distance / 2


@torch.no_grad()
def fit_log_mixture(losses: Tensor, iterations: int = 1000, tolerance: float = 1e-5) -> LogMixture | None:
    """Fit two Gaussians to the log of losses, by expectation maximisation (Han et al., 2024, DLG-LC).

    It starts from the means of the lower and the upper half, with their common variance, and is
    deterministic.

    Args:
        losses: (N,); those that are not finite or not above 0 are left out.
        iterations: at most so many.
        tolerance: it ends when the mean log likelihood rises by less.

    Returns:
        The mixture; ``None`` if fewer than four losses differ.
    """
    x = losses.double()
    x = x[torch.isfinite(x) & (x > 0)].log().sort().values
    if len(x.unique()) < 4:
        return None
    halves = x[: len(x) // 2], x[len(x) // 2 :]
    means = torch.stack([half.mean() for half in halves])
    within = torch.stack([half.var(correction=0) for half in halves]).mean().clamp_min(_FLOOR)
    found = LogMixture(torch.full_like(means, 0.5), means, within.expand(2).clone())
    before = -math.inf
    for _ in range(iterations):
        joint = found.log_densities(x)  # (2, N)
        total = joint.logsumexp(0)
        share = (joint - total).exp()
        count = share.sum(1).clamp_min(1e-12)
        means = share @ x / count
        spread = (share * (x - means[:, None]).square()).sum(1) / count
        found = LogMixture(count / len(x), means, spread.clamp_min(_FLOOR))
        now = float(total.mean())
        if now - before < tolerance:
            break
        before = now
    order = found.means.argsort()
    return LogMixture(*(part[order] for part in found))


def crossing(mixture: LogMixture) -> float | None:
    """Return the log loss between the two means where the weighted densities are equal.

    ``None`` if there is no such point or there are two, so that one component is the denser at both means.
    """
    w1, w2, m1, m2, v1, v2 = (float(value) for part in mixture for value in part)
    at_means = mixture.log_densities(mixture.means)
    if not bool((at_means[0, 0] > at_means[1, 0]) & (at_means[1, 1] > at_means[0, 1])):
        return None
    # log density 1 - log density 2 = a x^2 + b x + c, with x counted from the first mean
    d = m2 - m1
    a, b = 1 / (2 * v2) - 1 / (2 * v1), -d / v2
    c = math.log(w1 / w2) - math.log(v1 / v2) / 2 + d * d / (2 * v2)
    root = math.sqrt(max(b * b - 4 * a * c, 0.0))
    # c > 0 > b, so the root between the means is that of the smaller size, without cancellation
    return m1 + 2 * c / (root - b)


def low_share(losses: Tensor, mixture: LogMixture) -> Tensor:
    """Return (B,) the probability that each loss is of the component of low losses.

    Below its mean the probability is that at the mean: a wider second component would win there again.
    """
    x = torch.maximum(losses.detach().double().log(), mixture.means[0])
    low: Tensor = mixture.log_densities(x).softmax(0)[0]
    return low.to(losses.dtype)


def kept_mean(losses: Tensor, keep: Tensor) -> Tensor:
    """Return the mean of the losses that are kept (LGL; Tao et al., 2022); 0 if none is.

    Args:
        losses: (B,).
        keep: (B,) which; or weights from 0 to 1.
    """
    share = keep.to(losses.dtype)
    return torch.where(share > 0, losses * share, 0).sum() / share.sum().clamp_min(1)


def corrected_mean(losses: Tensor, keep: Tensor, predicted: Tensor, sure: Tensor) -> Tensor:
    """Return the loss with label correction: of kept labels, and of sure predictions in place of others.

    The sum is divided by B, not by the number of both (as in the public code of DLG-LC), so a batch in which
    few labels are reliable teaches less.

    Args:
        losses: (B,) of the given labels.
        keep: (B,) whether each is reliable.
        predicted: (B,) losses of the predicted labels.
        sure: (B,) whether each prediction is confident.
    """
    return torch.where(keep, losses, torch.where(sure, predicted, 0)).mean()
