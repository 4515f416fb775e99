"""Drawing from clusters: which of those nearby, and which of its members."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Buckets", "draw_rank", "nearest_clusters"]

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

    def draw(
        self, cluster: Tensor, without: Tensor, uniform: Tensor, slot_of: Tensor | None = None
    ) -> Tensor:
        """Draw one member of each cluster uniformly.

        Args:
            cluster: (B,) clusters to draw from; -1 gives -1.
            without: (B,) a member never to be drawn.
            uniform: (B,) numbers in [0, 1) that decide.
            slot_of: (N,) if given, only members with a number of at least 0 here are drawn.

        Returns:
            (B,) members, -1 where there is none to draw.
        """
        wanted = cluster.clamp_min(0)
        order, start, count = self.order, self.starts[wanted], self.counts[wanted]
        own = self.place[without] - start
        inside = (own >= 0) & (own < count)
        if slot_of is not None:
            each, number = wanted.unique(return_inverse=True)
            members, begin = self.members(each)
            there = slot_of.index_select(0, members) >= 0
            before = F.pad(there.cumsum(0), (1, 0))  # how many of them come before each
            begin = begin[number]
            start, end = before[begin], before[begin + count]
            own = before[torch.where(inside, begin + own, 0)] - start
            inside &= slot_of[without] >= 0
            order, count = F.pad(members[there], (0, 1)), end - start
        count = count - inside.long()
        pick = (uniform * count).long().clamp_max(count - 1)
        pick = pick + (inside & (pick >= own)).long()
        found = (cluster >= 0) & (count > 0)
        return torch.where(found, order[torch.where(found, start + pick, 0)], -1)

    def members(self, cluster: Tensor) -> tuple[Tensor, Tensor]:
        """Return all members of each cluster (B,), one after the other, and where those of each begin (B,).

        A cluster of -1 has none.
        """
        wanted = cluster.clamp_min(0)
        count = torch.where(cluster >= 0, self.counts[wanted], 0)
        begin = count.cumsum(0) - count
        place = (self.starts[wanted] - begin).repeat_interleave(count)
        return self.order.index_select(0, place + torch.arange(len(place), device=place.device)), begin
