"""Clustering for samplers, and what can be logged of clusters without labels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from idemvox.clustering.agglomerative import agglomerate, clusters_of
from idemvox.clustering.agreement import adjusted_rand
from idemvox.clustering.kmeans import Clusters, Start, spherical_kmeans
from idemvox.clustering.silhouette import choose_cut
from idemvox.ranks import collect, of_first, rank, world

__all__ = ["Clustering", "find_clusters", "size_numbers"]


class Clustering(Protocol):
    """How to cluster; see :class:`~idemvox.positives.cluster_options.ClusterOptions`."""

    @property
    def clusterer(self) -> str: ...
    @property
    def iterations(self) -> int: ...
    @property
    def exact_up_to(self) -> int: ...
    @property
    def start(self) -> Start: ...
    @property
    def restarts(self) -> int: ...


def find_clusters(x: Tensor, ids: Tensor, k: int | None, options: Clustering, seed: int) -> Clusters:
    """Cluster vectors that all ranks have; for k-means each rank does a part of the work.

    Args:
        x: (U, D) vectors of any norm.
        ids: (U,) their ids, ascending.
        k: highest number of clusters; ``None`` chooses it by the silhouette (agglomeration only).
        options: options of the sampler.
        seed: seed of this clustering.

    Returns:
        The clusters of all vectors, the same on all ranks; an assignment of -1 means no cluster.
    """
    if options.clusterer == "agglomerative":
        tree = agglomerate(
            x, ids=ids, exact_up_to=options.exact_up_to, iterations=options.iterations, seed=seed
        )
        if k is None:
            k = int(of_first(torch.tensor([choose_cut(x, tree)], device=x.device)))
        return clusters_of(x, tree.cut(k))
    if k is None:
        raise ValueError("k-means needs a number of clusters")
    part = torch.arange(rank(), len(x), world(), device=x.device)
    rows = x if world() == 1 else x[part]
    found = spherical_kmeans(
        rows,
        k,
        options.iterations,
        seed,
        start=options.start,
        restarts=options.restarts,
        ids=ids[part],
        sharded=True,
    )
    order = collect(part).argsort()
    return Clusters(found.centroids, collect(found.assignment)[order], collect(found.similarity)[order])


def size_numbers(assignment: Tensor, before: Tensor, clusters: int) -> dict[str, float]:
    """Return numbers to log of a partition: clusters, their sizes, and agreement with the previous epoch.

    ``clustered_together`` is the share of utterances that are not alone in their cluster.

    Args:
        assignment: (N,) clusters, K for none.
        before: (N,) clusters of the previous epoch.
        clusters: number K of clusters.
    """
    sizes = torch.bincount(assignment[assignment < clusters])
    sizes = sizes[sizes > 0]
    numbers = {
        "clusters": float(len(sizes)),
        "cluster_median": float(sizes.median()) if len(sizes) else 0.0,
        "cluster_largest": float(sizes.max()) if len(sizes) else 0.0,
        "clustered_together": float(sizes[sizes > 1].sum()) / max(len(assignment), 1),
    }
    known = (assignment < clusters) & (before < clusters)
    if known.any():
        numbers["cluster_agreement"] = adjusted_rand(before[known], assignment[known])
    return numbers
