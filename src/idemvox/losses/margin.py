"""Classification losses on the angle between embeddings and class vectors: pure functions of tensors.

Everything runs in fp32, even under autocast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single, with_margin

__all__ = ["aam_softmax", "adacos", "adacos_start", "class_probability", "cosface"]


def _cosine(embedding: Tensor, weight: Tensor) -> Tensor:
    """Return the cosines (B, C) of embeddings (B, D) with class vectors (C, D)."""
    return F.linear(F.normalize(single(embedding), dim=1), F.normalize(single(weight), dim=1))


def class_probability(embedding: Tensor, weight: Tensor, temperature: float = 0.1) -> Tensor:
    """Return (B, C) the softmax of the cosines of embeddings (B, D) and class vectors (C, D).

    Args:
        embedding, weight: of any norm.
        temperature: divisor of the cosines.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        return (_cosine(embedding, weight) / temperature).softmax(dim=1)


def aam_softmax(
    embedding: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: float = 30.0,
    margin: float = 0.2,
    reduction: Reduction = "mean",
) -> Tensor:
    """Additive angular margin softmax (ArcFace, Deng et al. 2019, eq. 3).

    The logit of the right class is ``scale * cos(theta + margin)``. Past ``theta = pi - margin``, where that
    would rise again, it is ``scale * (cos(theta) - margin * sin(margin))``, which keeps falling.

    Args:
        embedding: (B, D), of any norm.
        weight: (C, D) class vectors, of any norm.
        labels: (B,) class numbers in [0, C).
        scale: factor of the cosines.
        margin: in radians.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar cross entropy, the mean over the batch; or (B,).
    """
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = _cosine(embedding, weight)
        logits = scale * with_margin(cosine, labels, margin, angular=True)
        return F.cross_entropy(logits, labels, reduction=reduction)


def cosface(
    embedding: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: float = 30.0,
    margin: float = 0.2,
    reduction: Reduction = "mean",
) -> Tensor:
    """Additive margin softmax (CosFace, Wang et al. 2018, eq. 4).

    The logit of the right class is ``scale * (cos(theta) - margin)``.

    Args:
        embedding, weight, labels, scale, reduction: as for :func:`aam_softmax`.
        margin: subtracted from the cosine.

    Returns:
        Scalar cross entropy, the mean over the batch; or (B,).
    """
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = _cosine(embedding, weight)
        logits = scale * with_margin(cosine, labels, margin)
        return F.cross_entropy(logits, labels, reduction=reduction)


def adacos_start(classes: int) -> float:
    """Return the initial scale of AdaCos, ``sqrt(2) log(C - 1)`` (Zhang et al. 2019).

    >>> round(adacos_start(1211), 3)
    10.037
    """
    return math.sqrt(2) * math.log(classes - 1)


def adacos(
    embedding: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, reduction: Reduction = "mean"
) -> tuple[Tensor, Tensor]:
    """Softmax without a margin, whose scale follows the angles (AdaCos, Zhang et al. 2019).

    ``s <- log(B_avg) / cos(min(pi / 4, theta_med))``. B_avg is the batch mean of ``exp(s cos)`` summed over
    the wrong classes, at the previous scale. theta_med is the median angle to the right class (the lower of
    the two middle ones in a batch of even size). With very few classes B_avg may fall to 1 and the scale to 0
    or below, so the scale is at least 1.

    Args:
        embedding, weight, labels, reduction: as for :func:`aam_softmax`.
        scale: scalar, from the previous step; :func:`adacos_start` for the first.

    Returns:
        Scalar cross entropy, the mean over the batch, or (B,); and the new scale, without a gradient.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        cosine = _cosine(embedding, weight)
        with torch.no_grad():
            wrong = (scale * cosine).scatter(1, labels[:, None], float("-inf"))
            average = wrong.flatten().logsumexp(0) - math.log(len(labels))  # log(B_avg)
            # the angle falls as the cosine rises: the lower median of angles is the upper one of cosines
            median = -(-cosine.gather(1, labels[:, None])).median()
            scale = (average / median.clamp_min(math.cos(math.pi / 4))).clamp_min(1.0)
        return F.cross_entropy(scale * cosine, labels, reduction=reduction), scale
