"""Nearest neighbours within clusters, and the share of mutual ones."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mutual_share", "nearest_within"]

_ROWS = 1024  # rows compared at once
_SAMPLE = 1000  # most rows whose neighbours are examined


@torch.no_grad()
def nearest_within(x: Tensor, cluster: Tensor, count: int) -> Tensor:
    """Return (N, count) the nearest rows (cosine) in each row's own cluster, nearest first; -1 for none.

    Several clusters are compared at a time, up to about 1,000 rows; a larger cluster is compared alone.

    Args:
        x: (N, D) vectors of any norm.
        cluster: (N,) numbers from 0; a negative one means no cluster.
        count: number of neighbours.
    """
    x = F.normalize(x.float(), dim=1)
    table = torch.full((len(x), count), -1, device=x.device)
    rows = (cluster >= 0).nonzero().flatten()
    rows = rows[cluster[rows].argsort(stable=True)]  # cluster by cluster
    ends = cluster[rows].unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
    start = 0
    for end, after in pairwise([*ends, float("inf")]):
        if after - start <= _ROWS:
            continue  # the next cluster fits too
        part = rows[start:end]
        product = x[part] @ x[part].T
        other = cluster[part][:, None] != cluster[part]
        product.masked_fill_(other.fill_diagonal_(True), -torch.inf)
        best = product.topk(min(count, len(part)), dim=1)
        table[part, : best.values.shape[1]] = part[best.indices].masked_fill(best.values == -torch.inf, -1)
        start = end
    return table


@torch.no_grad()
def mutual_share(x: Tensor) -> float:
    """Return the share of rows that are the nearest neighbour (cosine) of their own nearest neighbour.

    It is low if vectors do not form clusters, and lower the more dimensions they fill, because a few rows are
    then the nearest of nearly all. At most 1,000 rows, evenly spaced, are examined.

    Args:
        x: (N, D) vectors of any norm.
    """
    if len(x) < 2:
        return 0.0
    x = F.normalize(x.float(), dim=1)
    sample = torch.arange(0, len(x), -(-len(x) // _SAMPLE), device=x.device)
    near = _nearest_other(x, sample)
    return float((_nearest_other(x, near) == sample).float().mean())


def _nearest_other(x: Tensor, rows: Tensor) -> Tensor:
    """Return (R,) the nearest other row for each of ``rows`` (R,)."""
    parts = []
    for part in rows.split(max(1, (1 << 26) // len(x))):
        parts.append((x[part] @ x.T).scatter_(1, part[:, None], -torch.inf).argmax(1))
    return torch.cat(parts)
