"""Drawing from clusters: one of the nearest clusters, and one of its members."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.devices import is_free_to_read
from idemvox.positives.queue import EmbeddingQueue

__all__ = ["Buckets", "draw_rank", "draw_slots", "nearest_clusters"]

_BLOCK = 1 << 26  # similarities held at once


def nearest_clusters(centroids: Tensor, occupied: Tensor, neighbours: int) -> Tensor:
    """Return (K, M) the M occupied clusters nearest to each centroid (K, D), without itself; -1 for none."""
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
    """Draw ranks of neighbours in proportion to weights.

    Args:
        available: (B,) number of neighbours to draw from, the first ones of M.
        weights: (M,) weights of any sum.
        uniform: (B,) random numbers in [0, 1).

    Returns:
        (B,) ranks below ``available``; 0 where that is 0.
    """
    last = (available - 1).clamp_min(0)
    edges = weights.cumsum(0)
    return torch.minimum(torch.searchsorted(edges, uniform * edges[last], right=True), last)


def _draw(start: Tensor, count: Tensor, uniform: Tensor, left_out: Tensor | None) -> tuple[Tensor, Tensor]:
    """Draw a place from ``start`` to ``start + count - 1``, but never ``left_out``.

    Returns:
        (B,) places, and (B,) whether there was one to draw; where not, the place is ``start - 1``.
    """
    if left_out is None:
        return start + (uniform * count).long().clamp_max(count - 1), count > 0
    inside = ((left_out >= start) & (left_out < start + count)).long()
    place, found = _draw(start, count - inside, uniform, None)
    return place + (inside & (place >= left_out)), found


def draw_slots(
    queue: EmbeddingQueue,
    held_cluster: Tensor,
    wanted: Tensor,
    uniform: Tensor,
    clusters: int,
    excluded: Tensor | None = None,
) -> Tensor:
    """Draw uniformly one of the utterances that a queue holds of each cluster.

    One pass over the slots finds the utterances of all the clusters. Its cost depends on the size of the
    queue, not on the sizes of the clusters.

    Args:
        queue: the queue.
        held_cluster: (size,) the cluster of the utterance in each slot, K for none.
        wanted: (B,) clusters to draw from; -1 gives -1.
        uniform: (B,) random numbers in [0, 1).
        clusters: number K of clusters.
        excluded: (B,) an utterance never to draw for each row; ``None`` if none of them is in its cluster.

    Returns:
        (B,) slots, -1 where there is none to draw.
    """
    anchors = len(wanted)
    # the group of each wanted cluster, numbered by one of its anchors; 0 for all other clusters
    group_of = torch.zeros(clusters + 2, dtype=torch.int32, device=wanted.device)
    group_of[wanted] = torch.arange(1, anchors + 1, dtype=torch.int32, device=wanted.device)
    group = group_of.index_select(0, held_cluster)
    if is_free_to_read(group):
        slots = group.bool().nonzero().flatten()
    else:  # only the device knows their number, so sort all slots, which is fast there
        slots = torch.arange(queue.size, device=group.device)
    if not len(slots):
        return torch.full_like(wanted, -1)
    group = group[slots]
    counts_in = queue.holds(slots) & (group > 0)
    group, order = torch.where(counts_in, group, anchors + 1).sort(stable=True)
    slots = slots[order]  # group by group, then those in no group
    counts = torch.zeros(anchors + 2, dtype=torch.int64, device=group.device)
    counts.index_add_(0, group, torch.ones_like(group, dtype=torch.int64))
    group_wanted = group_of[wanted]
    count = counts[group_wanted]
    start = counts.cumsum(0)[group_wanted] - count
    left_out = None
    if excluded is not None:
        slot = queue.find(excluded)
        order_of = group.long() * queue.size + slots
        left_out = torch.searchsorted(order_of, group_wanted.long() * queue.size + slot)
        left_out = torch.where((slot >= 0) & (held_cluster[slot] == wanted), left_out, -1)
    drawn, found = _draw(start, count, uniform, left_out)
    return torch.where(found, slots[drawn], -1)


class Buckets:
    """The members of each cluster, stored for drawing many at once.

    Args:
        cluster: (N,) the cluster of each member, K for none.
        clusters: number K of clusters.
    """

    def __init__(self, cluster: Tensor, clusters: int) -> None:
        members = (cluster < clusters).nonzero().flatten()
        members = members[torch.argsort(cluster[members], stable=True)]  # cluster by cluster
        self.counts = torch.bincount(cluster[members], minlength=clusters)
        self.starts = self.counts.cumsum(0) - self.counts
        self.place = torch.full_like(cluster, -1, dtype=torch.int64)
        self.place[members] = torch.arange(len(members), device=cluster.device)
        self.order = F.pad(members, (0, 1))  # one more, so that every start is a valid index

    def draw(self, cluster: Tensor, without: Tensor, uniform: Tensor) -> Tensor:
        """Draw one member of each cluster uniformly.

        Args:
            cluster: (B,) clusters to draw from; -1 gives -1.
            without: (B,) a member never to draw for each row.
            uniform: (B,) random numbers in [0, 1).

        Returns:
            (B,) members, -1 where there is none to draw.
        """
        place, found = _draw(self.starts[cluster], self.counts[cluster], uniform, self.place[without])
        found &= cluster >= 0
        return torch.where(found, self.order[torch.where(found, place, 0)], -1)

    def all_of(self, cluster: Tensor) -> tuple[Tensor, Tensor]:
        """Return all members of each cluster (B,), one after the other, and where those of each begin (B,).

        A cluster of -1 has none.
        """
        wanted = cluster.clamp_min(0)
        count = torch.where(cluster >= 0, self.counts[wanted], 0)
        begin = count.cumsum(0) - count
        place = (self.starts[wanted] - begin).repeat_interleave(count)
        return self.order.index_select(0, place + torch.arange(len(place), device=place.device)), begin
