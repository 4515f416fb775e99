"""Fitting a mixture of Gaussians, the universal background model of i-vectors, by EM in batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from idemvox.encoders.mixture import Mixture, expand, from_upper_triangle, widest
from idemvox.errors import RecipeError

__all__ = ["fit_mixture", "improve"]

CHUNK = 8192  # frames whose posteriors are held at once
FLOOR = 0.01  # least variance of a component, as a share of that of all frames


def fit_mixture(
    frames: Tensor,
    components: int,
    *,
    full: bool = False,
    iterations: int = 12,
    seed: int = 0,
    tell: Callable[[float], None] = lambda value: None,
) -> Mixture:
    """Fit a mixture by maximum likelihood, starting with random frames as means.

    Args:
        frames: (N, D), N at least ``components``.
        components: C.
        full: after diagonal covariances fit full ones, for the same number of iterations.
        iterations: iterations for each kind of covariance.
        seed: seed for choosing the frames.
        tell: called with the mean log-likelihood of a frame before each iteration.
    """
    if len(frames) < components:
        raise RecipeError(
            f"{len(frames)} frames of speech are too few for {components} Gaussians: lower encoder.components"
        )
    spread = frames.std(0, correction=0).clamp(min=1e-6)
    chosen = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:components]
    mixture = Mixture(
        frames.new_full((components,), 1 / components),
        frames[chosen.to(frames.device)],
        (1 / spread).expand(components, -1),
    )
    for _ in range(iterations):
        mixture, value = improve(mixture, frames, spread)
        tell(value)
    if full:
        mixture = Mixture(mixture.weights, mixture.means, torch.diag_embed(mixture.factors))
        for _ in range(iterations):
            mixture, value = improve(mixture, frames, spread)
            tell(value)
    return mixture


def improve(mixture: Mixture, frames: Tensor, spread: Tensor) -> tuple[Mixture, float]:
    """Return the mixture after one iteration of EM, and the mean log-likelihood of a frame before it.

    The log-likelihood never falls. Variances in every direction are at least :data:`FLOOR` of the variance of
    all frames, ``spread`` (D,) squared. A component with less than one frame does not change.
    """
    size = frames.shape[1]
    wide = widest(frames)
    counts = torch.zeros_like(mixture.weights, dtype=wide)  # (C,)
    sums = torch.zeros_like(mixture.matrix.T, dtype=wide)  # (C, K)
    total = 0.0
    for x in frames.split(CHUNK):
        expanded = expand(x, mixture.full)
        joint = mixture.log_joint(expanded)  # (n, C)
        total += float(joint.logsumexp(1).sum(dtype=wide))
        posteriors = joint.softmax(1)
        sums += posteriors.T @ expanded
        counts += posteriors.sum(0, dtype=wide)
    alive, counts = counts >= 1, counts.clamp(min=1e-3)
    mean, square = (sums / counts[:, None]).split([size, sums.shape[1] - size], 1)
    scale = spread.to(wide)
    if mixture.full:
        covariance = from_upper_triangle(square) - mean[:, :, None] * mean[:, None, :]
        values, vectors = torch.linalg.eigh(covariance / (scale[:, None] * scale))
        vectors = vectors / scale[:, None]
        precision = (vectors / values.clamp(min=FLOOR)[:, None, :]) @ vectors.mT
        factors = torch.linalg.cholesky(precision)
    else:
        factors = (square - mean.square()).clamp(min=FLOOR * scale.square()).rsqrt()
    keep = alive.view(-1, *[1] * (factors.ndim - 1))
    return Mixture(
        (counts / counts.sum()).to(frames),
        torch.where(alive[:, None], mean, mixture.means).to(frames),
        torch.where(keep, factors, mixture.factors).to(frames),
    ), total / len(frames)
