"""Spherical k-means in torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.errors import IdemvoxError

__all__ = ["Clusters", "spherical_kmeans", "whiten"]

_BLOCK = 1 << 26  # similarities held at once: 256 MiB in fp32


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of N vectors into K directions.

    Attributes:
        centroids: (K, D) of unit norm.
        assignment: (N,) the centroid nearest to each vector.
        similarity: (N,) the cosine with that centroid; its mean is the objective.
    """

    centroids: Tensor
    assignment: Tensor
    similarity: Tensor

    @property
    def objective(self) -> float:
        """Mean cosine of the vectors with their centroids: what the iterations raise."""
        return float(self.similarity.mean())


def _assign(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best cosine (N,) and the centroid that gives it (N,), in blocks of bounded memory."""
    rows = max(1, _BLOCK // len(centroids))
    parts = [torch.max(block @ centroids.T, dim=1) for block in x.split(rows)]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


@torch.no_grad()
def whiten(x: Tensor, power: float) -> Tensor:
    """Make the directions in which vectors differ most count less.

    The vectors are normalised and centred, and along each principal axis divided by its singular value to
    the ``power``: 0 keeps the shape of the cloud, 1 makes it round (PCA whitening).

    Args:
        x: (N, D) vectors of any norm.
        power: from 0 to 1.

    Returns:
        (N, D) along the principal axes, of any norm.
    """
    centred = F.normalize(x.float(), dim=1)
    centred = centred - centred.mean(dim=0)
    variance, axes = torch.linalg.eigh(centred.T.double() @ centred.double())
    floor = 1e-6 * variance[-1].clamp_min(1e-12)  # axes along which nothing differs hold only rounding
    scale = variance.clamp_min(floor) ** (-power / 2) * (variance > floor)
    whitened: Tensor = centred @ (axes * scale).float()
    return whitened


@torch.no_grad()
def spherical_kmeans(x: Tensor, k: int, iterations: int = 10, seed: int = 0) -> Clusters:
    """Cluster directions: Lloyd's algorithm with cosine similarity (Dhillon & Modha, 2001).

    The start is K distinct rows.  A cluster that runs empty is started again from the vector that its own
    centroid describes worst, so that K clusters stay K wherever the data have as many distinct directions.

    Args:
        x: (N, D) vectors of any norm; normalised here.
        k: number of clusters; at most N are made.
        iterations: of assignment and update; the assignment returned is to the centroids returned.
        seed: of the choice of the first centroids, which is all the chance there is.

    Returns:
        The clusters, on the device of ``x``.

    Raises:
        IdemvoxError: if rows are not finite (the first of them are named), or there are none.
    """
    bad = (~torch.isfinite(x).all(dim=1)).nonzero().flatten()
    if len(bad):
        some = ", ".join(str(int(i)) for i in bad[:10])
        raise IdemvoxError(
            f"{len(bad)} of {len(x)} vectors to cluster are not finite (rows {some}): "
            "the encoder has diverged on these utterances; lower the learning rate or look at their audio"
        )
    if len(x) == 0:
        raise IdemvoxError("there is nothing to cluster: the training manifest is empty")
    x = F.normalize(x.float(), dim=1)
    k = min(k, len(x))
    start = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:k]
    centroids = x[start.to(x.device)]
    for _ in range(iterations):
        best, nearest = _assign(x, centroids)
        counts = torch.bincount(nearest, minlength=k)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, x)
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            worst = torch.argsort(best, stable=True)[: len(empty)]
            sums[empty[: len(worst)]] = x[worst]
        centroids = F.normalize(sums, dim=1)
    best, nearest = _assign(x, centroids)
    return Clusters(centroids, nearest, best)
