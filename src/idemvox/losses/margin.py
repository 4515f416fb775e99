"""Classification losses with a margin on the angle: pure functions of tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["aam_softmax"]


def aam_softmax(
    embedding: Tensor, weight: Tensor, labels: Tensor, scale: float = 30.0, margin: float = 0.2
) -> Tensor:
    """Additive angular margin softmax (ArcFace, Deng et al. 2019, eq. 3).

    The logit of the right class is ``scale * cos(theta + margin)``; past ``theta = pi - margin``, where
    that would rise again, it goes on falling as ``scale * (cos(theta) - margin * sin(margin))``.

    Args:
        embedding: (B, D), of any norm.
        weight: (C, D) class vectors, of any norm.
        labels: (B,) class numbers in [0, C).
        scale: of the cosines.
        margin: in radians.

    Returns:
        Scalar cross entropy, the mean over the batch.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        dtype = torch.promote_types(embedding.dtype, torch.float32)  # half to fp32, fp64 as it is
        cosine = F.linear(F.normalize(embedding.to(dtype), dim=1), F.normalize(weight.to(dtype), dim=1))
        right = cosine.gather(1, labels[:, None])  # (B, 1)
        sine = (1 - right.square()).clamp_min(1e-12).sqrt()
        shifted = right * math.cos(margin) - sine * math.sin(margin)
        beyond = right <= math.cos(math.pi - margin)
        shifted = torch.where(beyond, right - margin * math.sin(margin), shifted)
        return F.cross_entropy(scale * cosine.scatter(1, labels[:, None], shifted), labels)
