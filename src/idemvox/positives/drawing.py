"""Drawing from clusters: which of those nearby, and which of its members."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.positives.queue import EmbeddingQueue

__all__ = ["Buckets", "draw_rank", "draw_slots", "nearest_clusters"]

_BLOCK = 1 << 26  # similarities held at once


def nearest_clusters(centroids: Tensor, occupied: Tensor, neighbours: int) -> Tensor:
    """Return (K, M) the M occupied clusters nearest to each centroid (K, D), itself left out; -1 for none."""
    m = min(neighbours, len(centroids))
    parts = []
    for rows in torch.arange(len(centroids), device=centroids.device).split(max(1, _BLOCK // len(centroids))):
        similarity = centroids[rows] @ centroids.T  # (rows, K)
        similarity[:, ~occupied] = float("-inf")
        similarity[torch.arange(len(rows)), rows] = float("-inf")
        best = similarity.topk(m, dim=1)
        parts.append(best.indices.masked_fill(best.values == float("-inf"), -1))
    return torch.cat(parts)


def draw_rank(available: Tensor, weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw the ranks of neighbours, each in proportion to its weight.

    Args:
        available: (B,) how many of the M neighbours there are: the first ones.
        weights: (M,) of any sum.
        uniform: (B,) numbers in [0, 1) that decide.

    Returns:
        (B,) ranks below ``available``; 0 where that is 0.
    """
    last = (available - 1).clamp_min(0)
    edges = weights.cumsum(0)
    return torch.minimum(torch.searchsorted(edges, uniform * edges[last], right=True), last)


def _draw(
    start: Tensor, count: Tensor, own: Tensor, inside: Tensor, uniform: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw a place from ``start`` to ``start + count``, not ``start + own`` where that is ``inside``.

    Returns:
        (B,) places, and (B,) whether there was any.
    """
    count = count - inside.long()
    pick = (uniform * count).long().clamp_max(count - 1)
    return start + pick + (inside & (pick >= own)).long(), count > 0


def draw_slots(
    queue: EmbeddingQueue, cluster_of: Tensor, cluster: Tensor, ids: Tensor, uniform: Tensor, clusters: int
) -> Tensor:
    """Draw one of the utterances of each cluster that a queue holds, uniformly.

    One look at what is in every slot finds those of all the clusters; it costs what the queue is long, not
    what the clusters are large.

    Args:
        cluster_of: (size,) the cluster of what is in each slot, K for none.
        cluster: (B,) clusters to draw from; -1 gives -1.
        ids: (B,) utterances never to be drawn.
        uniform: (B,) numbers in [0, 1) that decide.
        clusters: K.

    Returns:
        (B,) slots, -1 where there is none to draw.
    """
    size, anchors = queue.size, torch.arange(1, len(cluster) + 1, device=cluster.device, dtype=torch.int32)
    group_of = cluster_of.new_zeros(clusters + 1, dtype=torch.int32)
    group_of[cluster] = anchors  # for each cluster one that draws from it
    group_of[-1] = 0
    group = group_of.index_select(0, cluster_of)
    slots = group.nonzero().flatten()
    if not len(slots):
        return torch.full_like(cluster, -1)
    among = torch.where(queue.holds(slots), group[slots], 0).long()  # those that do not count come first
    keys = (among * size + slots).sort().values  # group by group
    first, own = group_of[cluster].long() * size, queue.find(ids)
    start, place, end = torch.searchsorted(keys, torch.stack([first, first + own, first + size]))
    inside = (own >= 0) & (cluster_of[own] == cluster)
    drawn, found = _draw(start, end - start, place - start, inside, uniform)
    found &= cluster >= 0
    return torch.where(found, keys[torch.where(found, drawn, 0)] % size, -1)


class Buckets:
    """The members of each cluster, laid out for drawing many at once.

    Args:
        cluster: (N,) the cluster of each member, -1 for one that is in none.
        clusters: K.
    """

    def __init__(self, cluster: Tensor, clusters: int) -> None:
        members = (cluster >= 0).nonzero().flatten()
        members = members[torch.argsort(cluster[members], stable=True)]  # cluster by cluster
        self.counts = torch.bincount(cluster[members], minlength=clusters)
        self.starts = self.counts.cumsum(0) - self.counts
        self.place = torch.full_like(cluster, -1)
        self.place[members] = torch.arange(len(members), device=cluster.device)
        self.order = F.pad(members, (0, 1))  # one more, so that there is something at every start

    def draw(self, cluster: Tensor, without: Tensor, uniform: Tensor) -> Tensor:
        """Draw one member of each cluster uniformly.

        Args:
            cluster: (B,) clusters to draw from; -1 gives -1.
            without: (B,) a member never to be drawn.
            uniform: (B,) numbers in [0, 1) that decide.

        Returns:
            (B,) members, -1 where there is none to draw.
        """
        start, count = self.starts[cluster], self.counts[cluster]
        own = self.place[without] - start
        place, found = _draw(start, count, own, (own >= 0) & (own < count), uniform)
        found &= cluster >= 0
        return torch.where(found, self.order[torch.where(found, place, 0)], -1)

    def members(self, cluster: Tensor) -> tuple[Tensor, Tensor]:
        """Return all members of each cluster (B,), one after the other, and where those of each begin (B,).

        A cluster of -1 has none.
        """
        wanted = cluster.clamp_min(0)
        count = torch.where(cluster >= 0, self.counts[wanted], 0)
        begin = count.cumsum(0) - count
        place = (self.starts[wanted] - begin).repeat_interleave(count)
        return self.order.index_select(0, place + torch.arange(len(place), device=place.device)), begin
