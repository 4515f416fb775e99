"""Dividing vectors into clusters that stand for speakers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from idemvox.clustering.agglomerative import agglomerate
from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.clustering.silhouette import choose_cut

__all__ = ["Clustering", "partition"]

Clustering = Literal["agglomerative", "kmeans"]


def partition(
    x: Tensor,
    clusters: int | None,
    clustering: Clustering = "agglomerative",
    *,
    exact_up_to: int = 50_000,
    iterations: int = 10,
    seed: int = 0,
) -> Tensor:
    """Return (N,) the cluster of each vector (N, D), by its direction; -1 for a row of zeros.

    Args:
        x: vectors of any norm.
        clusters: how many there shall be; ``None`` chooses the cut of the agglomeration with the highest mean
            silhouette (:func:`~idemvox.clustering.silhouette.choose_cut`), for k-means too.
        clustering: ``agglomerative``, or ``kmeans`` that begins with ``kmeans++``.
        exact_up_to: with more rows, k-means makes so many small clusters, and those are agglomerated.
        iterations: of k-means.
        seed: for k-means.
    """
    if clustering == "agglomerative" or clusters is None:
        tree = agglomerate(x, exact_up_to=exact_up_to, iterations=iterations, seed=seed)
        clusters = clusters or choose_cut(x, tree)
        if clustering == "agglomerative":
            return tree.cut(clusters)
    found = spherical_kmeans(x, clusters, iterations, seed, start="kmeans++").assignment
    return torch.where(x.any(dim=1), found, -1)
