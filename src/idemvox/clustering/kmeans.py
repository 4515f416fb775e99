"""Spherical k-means in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.clustering.nearest import nearest
from idemvox.clustering.shards import RowShards
from idemvox.draws import draw_seed
from idemvox.errors import CorpusError, RecipeError, RunError

__all__ = ["Clusters", "Start", "check_rows", "cluster_sums", "spherical_kmeans"]

Start = Literal["random", "kmeans++"]

_ROUNDS = 64  # of drawing rows in k-means++


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of N vectors into K directions.

    Attributes:
        centroids: (K, D) of unit norm.
        assignment: (N,) the nearest centroid of each vector.
        similarity: (N,) the cosine with that centroid; its mean is the objective.

    If rows are sharded, assignment and similarity cover the rows of this rank.
    """

    centroids: Tensor
    assignment: Tensor
    similarity: Tensor

    @property
    def objective(self) -> float:
        """Mean cosine of the vectors with their centroids, which the iterations increase."""
        return float(self.similarity.mean())


@torch.no_grad()
def spherical_kmeans(
    x: Tensor,
    k: int,
    iterations: int = 10,
    seed: int = 0,
    *,
    start: Start = "random",
    restarts: int = 1,
    ids: Tensor | None = None,
    sharded: bool = False,
) -> Clusters:
    """Cluster vectors by direction, with Lloyd's algorithm and cosine similarity (Dhillon & Modha, 2001).

    The first centroids are K distinct rows, either random (``random``) or far from each other (``kmeans++``;
    Arthur & Vassilvitskii, 2007). For the latter each row is drawn in proportion to its cosine distance from
    the nearest row drawn so far; if K > 64, in 64 rounds of several rows each.
    A cluster that becomes empty restarts from the vector with the lowest similarity to its own centroid. With
    as many clusters as vectors, or with duplicates, some clusters may still end empty.
    A row of zeros has no direction: it starts no cluster, and its similarity with any centroid is 0.

    The same call gives the same bits; on a GPU, rows are summed in a fixed order for this. If each rank holds
    part of the rows (``sharded``), all ranks get the centroids that one process with all rows would get, up
    to the rounding of sums.

    Args:
        x: (N, D) vectors of any norm; normalised here. A rank may have none.
        k: number of clusters; fewer if fewer rows have a direction.
        iterations: of assignment and update; the returned assignment is to the returned centroids.
        start: how the first centroids are chosen.
        restarts: number of runs; the one with the highest objective is returned.
        seed: for the choice of the first centroids, the only random part.
        ids: (N,) int64, distinct over all ranks; rows are drawn and named by id, so their order, and which
            rank holds them, does not matter. Default: row numbers, continued from rank to rank.
        sharded: whether the ranks of ``torch.distributed`` hold different rows; otherwise ``x`` holds all.

    Returns:
        The clusters, on the device of ``x``.

    Raises:
        RunError: (on every rank) rows are not finite, the first of which are named, or none has a direction.
        CorpusError: (on every rank) there are no rows.
    """
    shards = RowShards(F.normalize(x.float(), dim=1), ids, sharded)
    x = shards.x
    directed = x.any(dim=1)
    choice = check_rows(shards, directed)
    k = min(k, len(choice))
    best_clusters, best = None, -torch.inf
    for run in range(restarts):
        generator = torch.Generator().manual_seed(draw_seed(seed, run) if run else seed)
        first = _spread_rows if start == "kmeans++" else _random_rows
        clusters = _lloyd(shards, directed, shards.fetch(first(shards, choice, k, generator)), iterations)
        if restarts == 1:
            return clusters
        objective = float(shards.sum(clusters.similarity.sum(dtype=torch.float64)))
        if objective > best:
            best_clusters, best = clusters, objective
    if best_clusters is None:
        raise RecipeError(f"k-means needs 1 run or more, not {restarts}")
    return best_clusters


def _random_rows(shards: RowShards, choice: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the ids of K distinct rows in ``choice``."""
    return choice[torch.randperm(len(choice), generator=generator)[:k].to(choice.device)]


def _spread_rows(shards: RowShards, choice: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return the ids of K distinct rows in ``choice`` (sorted), drawn by k-means++."""
    place = torch.searchsorted(choice, shards.ids).clamp_max(len(choice) - 1)
    allowed = choice[place] == shards.ids
    distance = torch.full((len(shards.x),), 2.0, device=shards.x.device)  # from the nearest row chosen
    chosen: list[Tensor] = []
    left = k
    while left:
        uniform = torch.rand(len(choice), generator=generator, dtype=torch.float64).to(place.device)[place]
        race = -uniform.log() / distance.double()  # the lowest are a draw in proportion to distance
        drawn = shards.lowest(race.masked_fill(~allowed, torch.inf), min(-(-k // _ROUNDS), left))
        chosen.append(drawn)
        left -= len(drawn)
        allowed &= ~torch.isin(shards.ids, drawn)
        cosine = nearest(shards.x, shards.fetch(drawn))[0]
        distance = torch.minimum(distance, 1 - cosine).clamp_min(1e-12)
    return torch.cat(chosen)


def _lloyd(shards: RowShards, directed: Tensor, centroids: Tensor, iterations: int) -> Clusters:
    """Run iterations of Lloyd's algorithm from centroids (K, D)."""
    x, k = shards.x, len(centroids)
    for _ in range(iterations):
        best, assignment = nearest(x, centroids)
        sums = shards.sum(cluster_sums(x, assignment, k))
        empty = (~sums.any(dim=1)).nonzero().flatten()  # or its members cancel
        if len(empty):
            sums[empty] = shards.fetch(shards.lowest(best.masked_fill(~directed, torch.inf), len(empty)))
        centroids = F.normalize(sums, dim=1)
    best, assignment = nearest(x, centroids)
    return Clusters(centroids, assignment, best)


def check_rows(shards: RowShards, directed: Tensor) -> Tensor:
    """Return the sorted ids of all rows with a direction; raise an error if rows cannot be clustered."""
    finite = torch.isfinite(shards.x).all(dim=1)
    total = int(shards.sum(torch.tensor(len(finite), device=finite.device)))
    bad = shards.gather(shards.ids[~finite]).sort().values
    if len(bad):
        first = ", ".join(str(int(i)) for i in bad[:10])
        raise RunError(
            f"{len(bad)} of {total} vectors to cluster are not finite (ids {first}): "
            "the encoder has diverged on these utterances; lower the learning rate or check their audio"
        )
    choice = shards.gather(shards.ids[directed]).sort().values
    if total == 0:
        raise CorpusError("there is nothing to cluster: the training manifest is empty")
    if len(choice) == 0:
        raise RunError(f"all {total} vectors to cluster are zero: the encoder has collapsed")
    return choice


def cluster_sums(x: Tensor, assignment: Tensor, k: int, in_order: bool | None = None) -> Tensor:
    """Return (K, D) the sum of each cluster's rows.

    Args:
        x: (N, D).
        assignment: (N,) cluster of each row.
        k: K.
        in_order: sort by cluster and sum in that fixed order; default: not on a CPU, where adding rows as
            they come is just as reproducible and five times as fast.
    """
    if in_order is None:
        in_order = x.device.type != "cpu"
    if not in_order:
        return x.new_zeros(k, x.shape[1]).index_add_(0, assignment, x)
    rows = x[assignment.argsort(stable=True)]
    return torch.segment_reduce(rows, "sum", lengths=assignment.bincount(minlength=k), axis=0)
