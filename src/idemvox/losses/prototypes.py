"""Losses between embeddings and prototypes of clusters: pure functions of tensors.

Everything runs in fp32, even under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single

__all__ = ["concentration", "nearest_prototype", "proto_nce", "sinkhorn", "swapped_prediction"]


@torch.no_grad()
def concentration(
    x: Tensor, centroids: Tensor, assignment: Tensor, mean: float = 0.07, smoothing: float = 10.0
) -> Tensor:
    """Estimate how tight each cluster is, to use as its temperature: phi of PCL (Li et al., 2021, eq. 12).

    ``phi_c = sum_{x in c} |x - c| / (n log(n + smoothing))`` for a cluster of n members. As in PCL's code, a
    cluster of a single member gets the largest phi, values are clipped to their 10th and 90th percentiles,
    and all are scaled to the given mean.

    Args:
        x: (N, D) of unit norm.
        centroids: (K, D) of unit norm.
        assignment: (N,) the cluster of each row.
        mean: the mean over clusters with members.
        smoothing: alpha.

    Returns:
        (K,), 0 for a cluster without members.
    """
    x, centroids = single(x), single(centroids)
    sizes = assignment.bincount(minlength=len(centroids))
    distance = (x - centroids[assignment]).norm(dim=1)
    total = distance.new_zeros(len(centroids)).index_add_(0, assignment, distance)
    phi = total / (sizes * (sizes + smoothing).log()).clamp_min(1e-12)
    several, there = (sizes > 1) & (phi > 0), sizes > 0
    if not several.any():
        return torch.where(there, mean, 0.0).to(phi.dtype)
    phi = torch.where(several, phi, phi[several].max())
    phi = phi.clamp(phi[there].quantile(0.1), phi[there].quantile(0.9))
    return torch.where(there, mean * phi / phi[there].mean(), 0.0)


def proto_nce(
    query: Tensor, centroids: Tensor, phi: Tensor, right: Tensor, reduction: Reduction = "mean"
) -> Tensor:
    """Return the cross entropy of queries with the prototypes of their clusters: ProtoNCE.

    ``-log( exp(s(q, c_r) / phi_r) / sum_j exp(s(q, c_j) / phi_j) )`` with cosine similarity s: PCL (Li
    et al., 2021), eq. 11, without its first term.

    Args:
        query: (B, D), of any norm.
        centroids: (K, D), of any norm.
        phi: (K,) temperatures; a prototype of 0 is left out.
        right: (B,) the prototype of each query.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over queries; or (B,).
    """
    with torch.autocast(query.device.type, enabled=False):
        cosine = F.normalize(single(query), dim=1) @ F.normalize(single(centroids), dim=1).T  # (B, K)
        logits = torch.where(phi > 0, cosine / phi.clamp_min(1e-12), float("-inf"))
        return F.cross_entropy(logits, right, reduction=reduction)


@torch.no_grad()
def nearest_prototype(x: Tensor, centroids: Tensor, phi: Tensor) -> Tensor:
    """Return the most similar prototype (B,) of each row (B, D), of those whose phi is above 0."""
    with torch.autocast(x.device.type, enabled=False):
        cosine = single(x) @ F.normalize(single(centroids), dim=1).T  # (B, K)
        return torch.where(phi > 0, cosine, float("-inf")).argmax(1)


@torch.no_grad()
def sinkhorn(
    scores: Tensor, epsilon: float = 0.05, iterations: int = 3, counted: Tensor | None = None
) -> Tensor:
    """Assign rows to prototypes so that each prototype gets an equal share of them.

    SwAV (Caron et al., 2020): the matrix ``exp(scores / epsilon)`` is scaled in turns, so that columns sum to
    N / K and rows to 1.

    Args:
        scores: (N, K) cosines; of all ranks.
        epsilon: the larger, the more even the assignment of each row.
        iterations: of both scalings; the last one is that of the rows.
        counted: (N,) which rows to assign; ``None``: all.

    Returns:
        (N, K), rows sum to 1; those not counted are 0.
    """
    with torch.autocast(scores.device.type, enabled=False):
        scores = single(scores)
        codes = ((scores - scores.max()) / epsilon).exp()
        if counted is not None:
            codes = codes * counted[:, None]
        rows: Tensor | int = len(scores) if counted is None else counted.sum()
        share = rows / scores.shape[1]
        for _ in range(iterations):
            codes = codes * (share / codes.sum(0, keepdim=True).clamp_min(1e-30))
            codes = codes / codes.sum(1, keepdim=True).clamp_min(1e-30)
        return codes


def swapped_prediction(
    scores: Tensor, codes: Tensor, temperature: float = 0.1, reduction: Reduction = "mean"
) -> Tensor:
    """Return the cross entropy of one view's prototypes with the other's codes: SwAV's eq. 2, one term.

    Args:
        scores: (B, K) cosines of one view.
        codes: (B, K) assignment of the other, rows of sum 1.
        temperature: of the prediction.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over rows; or (B,).
    """
    with torch.autocast(scores.device.type, enabled=False):
        rows: Tensor = -(codes * F.log_softmax(single(scores) / temperature, dim=1)).sum(1)
        return rows.mean() if reduction == "mean" else rows
