"""Losses without negatives that keep the dimensions of embeddings varied: pure functions of tensors.

They compare the dimensions of a batch, not its rows, so there is no loss per row. All run in fp32, even under
autocast.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import single

__all__ = ["VICTerms", "barlow_twins", "covariance", "variance", "vicreg"]


class VICTerms(NamedTuple):
    """The terms of VICReg, scalars."""

    invariance: Tensor
    variance: Tensor
    covariance: Tensor


def variance(x: Tensor) -> Tensor:
    """Return by how much the standard deviations of the dimensions fall short of 1 on average.

    ``mean_d max(0, 1 - sqrt(Var(x_d) + 1e-4))`` with the unbiased variance: eq. 1 of VICReg (Bardes et al.,
    2022).

    Args:
        x: (B, D).
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.relu(1 - (single(x).var(0) + 1e-4).sqrt()).mean()


def covariance(x: Tensor) -> Tensor:
    """Return the sum of the squared covariances of different dimensions, divided by D: eq. 3 and 4 of VICReg.

    Args:
        x: (B, D).
    """
    with torch.autocast(x.device.type, enabled=False):
        centred = single(x) - single(x).mean(0)
        matrix = centred.T @ centred / (len(x) - 1)  # (D, D)
        total: Tensor = matrix.square().sum() - matrix.diagonal().square().sum()
        return total / x.shape[1]


def vicreg(a: Tensor, b: Tensor) -> VICTerms:
    """Return the terms of VICReg (Bardes et al., 2022) for two views.

    Invariance is the mean squared difference of all numbers, ``1/(B D) sum |a_i - b_i|^2``. Variance and
    covariance are summed over the views, as in the code of Lepage & Dehak (2022); VICReg's own code halves
    the variance.

    Args:
        a: (B, D) embeddings of one view, not normalised; of all ranks.
        b: (B, D) of the other.
    """
    with torch.autocast(a.device.type, enabled=False):
        return VICTerms(
            F.mse_loss(single(a), single(b)), variance(a) + variance(b), covariance(a) + covariance(b)
        )


def barlow_twins(a: Tensor, b: Tensor, weight: float = 0.005) -> Tensor:
    """Loss of Barlow Twins (Zbontar et al., 2021, eq. 1): the views' cross-correlation is to be the identity.

    ``sum_d (1 - C_dd)^2 + weight sum_{d != e} C_de^2``, with the correlation C_de over the batch of
    dimension d of one view and dimension e of the other.

    Args:
        a: (B, D) embeddings of one view, not normalised; of all ranks.
        b: (B, D) of the other.
        weight: lambda, of different dimensions.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = (F.batch_norm(single(x), None, None, training=True) for x in (a, b))
        squares = (
            a.T @ b / len(a) - torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        ).square()  # (D, D)
        same = squares.diagonal().sum()
        loss: Tensor = same + weight * (squares.sum() - same)
        return loss
