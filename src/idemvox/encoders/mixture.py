"""A mixture of Gaussians whose densities are one matrix product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Mixture", "expand", "from_upper_triangle", "upper_triangle", "widest"]


def widest(x: Tensor) -> torch.dtype:
    """float64, or float32 on Apple's GPUs, which lack it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def upper_triangle(x: Tensor) -> Tensor:
    """Upper triangles, row by row, of symmetric matrices: (..., D, D) -> (..., D (D + 1) / 2)."""
    i, j = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
    return x[..., i, j]


def from_upper_triangle(x: Tensor) -> Tensor:
    """The symmetric matrices that :func:`upper_triangle` was given."""
    size = math.isqrt(2 * x.shape[-1])
    i, j = torch.triu_indices(size, size, device=x.device)
    out = x.new_empty(*x.shape[:-1], size, size)
    out[..., i, j] = x
    out[..., j, i] = x
    return out


def expand(x: Tensor, full: bool) -> Tensor:
    """(N, D) frames -> (N, K): each frame with its squares or, if ``full``, all products of its values."""
    if not full:
        return torch.cat([x, x.square()], 1)
    i, j = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return torch.cat([x, x[:, i] * x[:, j]], 1)


class Mixture:
    """C Gaussians in D dimensions.

    Args:
        weights: (C,), sum 1.
        means: (C, D).
        factors: W with ``inverse covariance = W W^T``, lower triangular: (C, D, D), or its diagonal (C, D).
    """

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor) -> None:
        self.weights, self.means, self.factors = weights, means, factors
        self.full = factors.ndim == 3
        if self.full:
            precision = factors @ factors.mT  # (C, D, D)
            linear = (precision @ means[..., None]).squeeze(-1)
            square = upper_triangle(precision - torch.diag_embed(precision.diagonal(dim1=1, dim2=2)) / 2)
            volume = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        else:
            linear, square = factors.square() * means, factors.square() / 2
            volume = factors.log().sum(1)
        self.matrix = torch.cat([linear, -square], 1).T.contiguous()  # (K, C)
        at_zero = (linear * means).sum(1) / 2 + means.shape[1] / 2 * math.log(2 * math.pi)
        self._constant = weights.log() + volume - at_zero  # (C,)

    def log_joint(self, expanded: Tensor) -> Tensor:
        """(N, K) frames from :func:`expand` -> (N, C) log of weight times density."""
        return torch.addmm(self._constant, expanded, self.matrix)

    def whiten(self, counts: Tensor, first: Tensor) -> Tensor:
        """Sums over frames, ``counts`` (C,) and ``first`` (C, D) -> (C, D) ``W^T (first - counts mean)``."""
        centred = first - counts[:, None] * self.means
        if self.full:
            return (self.factors.mT @ centred[..., None]).squeeze(-1)
        return self.factors * centred
