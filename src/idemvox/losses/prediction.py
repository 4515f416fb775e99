"""Losses that bring pairs together, without negatives: pure functions of tensors.

Everything runs in fp32, even under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single

__all__ = ["negative_cosine", "spread", "unit_distance"]


def negative_cosine(prediction: Tensor, target: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return minus the cosine similarity of predictions with targets, which get no gradient (SimSiam, eq. 1).

    Args:
        prediction: (B, D), of any norm.
        target: (B, D).
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over rows; or (B,).
    """
    with torch.autocast(prediction.device.type, enabled=False):
        prediction, target = (F.normalize(single(x), dim=1) for x in (prediction, target.detach()))
        rows: Tensor = -torch.linalg.vecdot(prediction, target)  # (B,)
        return rows.mean() if reduction == "mean" else rows


def unit_distance(a: Tensor, b: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Return the squared distance of unit vectors; both get a gradient.

    Args:
        a, b: (B, D), of any norm.
        reduction: ``"mean"``, or ``"none"`` for the distance of each row.

    Returns:
        Scalar, the mean over rows; or (B,).
    """
    with torch.autocast(a.device.type, enabled=False):
        rows: Tensor = (F.normalize(single(a), dim=1) - F.normalize(single(b), dim=1)).square().sum(1)
        return rows.mean() if reduction == "mean" else rows


@torch.no_grad()
def spread(x: Tensor) -> Tensor:
    """Return how evenly directions spread: 1 evenly over the sphere, 0 if all are the same, a collapse.

    The standard deviation of each dimension of the normalised vectors, times sqrt(D), averaged (SimSiam,
    section 4.1).

    Args:
        x: (B, D), of any norm.
    """
    deviation: Tensor = F.normalize(single(x), dim=1).std(0).mean() * x.shape[1] ** 0.5
    return deviation
