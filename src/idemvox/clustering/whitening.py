"""Whitening: even out the spread of vectors over their principal axes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["whiten"]

_ROWS = 1 << 16  # rows held in fp64 at once


@torch.no_grad()
def whiten(x: Tensor, power: float) -> Tensor:
    """Reduce the weight of the axes along which vectors differ most.

    The vectors are normalised, centred, and divided along each principal axis by its singular value to the
    ``power``: 0 changes nothing, 1 is PCA whitening.

    Args:
        x: (N, D) vectors of any norm.
        power: from 0 to 1.

    Returns:
        (N, D) coordinates along the principal axes, of any norm.
    """
    centred = F.normalize(x.float(), dim=1)
    centred = centred - centred.mean(dim=0)
    scatter = centred.new_zeros(x.shape[1], x.shape[1], dtype=torch.float64)
    for part in centred.split(_ROWS):
        scatter.addmm_(part.T.double(), part.double())
    variance, axes = torch.linalg.eigh(scatter)
    floor = 1e-6 * variance[-1].clamp_min(1e-12)  # axes without variance hold only rounding
    scale = variance.clamp_min(floor) ** (-power / 2) * (variance > floor)
    whitened: Tensor = centred @ (axes * scale).float()
    return whitened
