"""Nearest others: within a cluster, and of each other."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["mutual_share", "nearest_within"]

_ROWS = 1024  # compared at once
_SAMPLE = 1000  # rows whose neighbours are looked at, at most


@torch.no_grad()
def nearest_within(x: Tensor, cluster: Tensor, count: int) -> Tensor:
    """Return (N, count) the rows nearest to each (cosine) in its own cluster, nearest first; -1 for none.

    Clusters are compared several at a time: beyond some 1,000 rows at once only where one has as many.

    Args:
        x: (N, D) vectors of any norm.
        cluster: (N,) numbers from 0 on; negative ones are in no cluster.
        count: how many.
    """
    x = F.normalize(x.float(), dim=1)
    table = torch.full((len(x), count), -1, device=x.device)
    rows = (cluster >= 0).nonzero().flatten()
    rows = rows[cluster[rows].argsort(stable=True)]  # cluster by cluster
    ends = cluster[rows].unique_consecutive(return_counts=True)[1].cumsum(0).tolist()
    start = 0
    for end, after in pairwise([*ends, float("inf")]):
        if after - start <= _ROWS:
            continue  # there is room for the next cluster too
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
    """Return the share of rows that are the nearest other row (cosine) of their own nearest.

    Where vectors lie in no clusters that share is low, and lower the more dimensions they fill: a few rows
    are everybody's nearest. Looked at are at most 1,000 rows, evenly spaced, among all.

    Args:
        x: (N, D) vectors of any norm.
    """
    if len(x) < 2:
        return 0.0
    x = F.normalize(x.float(), dim=1)
    some = torch.arange(0, len(x), -(-len(x) // _SAMPLE), device=x.device)
    near = _nearest_other(x, some)
    return float((_nearest_other(x, near) == some).float().mean())


def _nearest_other(x: Tensor, rows: Tensor) -> Tensor:
    """Return (R,) the nearest other row of each of ``rows`` (R,)."""
    parts = []
    for part in rows.split(max(1, (1 << 26) // len(x))):
        parts.append((x[part] @ x.T).scatter_(1, part[:, None], -torch.inf).argmax(1))
    return torch.cat(parts)
