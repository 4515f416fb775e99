"""Choosing the number of clusters without labels, by the silhouette."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.clustering.agglomerative import Dendrogram
from idemvox.clustering.kmeans import cluster_sums

__all__ = ["choose_cut", "silhouette"]

_BLOCK, _GPU_BLOCK = 1 << 24, 1 << 28  # similarities held at once
_ROWS = 20_000  # most rows whose silhouettes are averaged to choose a cut


@torch.no_grad()
def silhouette(x: Tensor, assignment: Tensor, rows: Tensor | None = None) -> float:
    """Return the mean silhouette (Rousseeuw, 1987) by cosine distance.

    A row's silhouette is (b - a) / max(a, b), where a is its mean distance to the other rows of its cluster
    and b its mean distance to the nearest other cluster; it is 0 for a cluster of one row. This takes N K D
    multiply-adds instead of N^2 D and is still exact, because a row's mean cosine with a cluster is its inner
    product with the cluster's mean unit vector.

    Args:
        x: (N, D) vectors of any norm.
        assignment: (N,) clusters from 0, none empty; -1 leaves a row out.
        rows: rows whose silhouettes are averaged; default: all.
    """
    x = F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)
    inside = assignment >= 0
    count = assignment[inside].bincount()
    if len(count) < 2:
        return 0.0
    total = cluster_sums(x[inside], assignment[inside], len(count))
    mean = total / count[:, None]
    rows = torch.arange(len(x), device=x.device) if rows is None else rows
    rows = rows[inside[rows]]
    most = _BLOCK if x.device.type == "cpu" else _GPU_BLOCK
    score = x.new_zeros(())
    for part in rows.split(max(1, most // len(count))):
        cluster = assignment[part]
        others = count[cluster] - 1
        a = 1 - (torch.linalg.vecdot(x[part], total[cluster]) - 1) / others.clamp_min(1)
        product = x[part] @ mean.T
        b = 1 - product.scatter_(1, cluster[:, None], -torch.inf).amax(1)
        score += torch.where(others > 0, (b - a) / torch.maximum(a, b).clamp_min(1e-12), 0).sum()
    return float(score / max(len(rows), 1))


def choose_cut(x: Tensor, tree: Dendrogram) -> int:
    """Return the K whose cut of the tree has the highest mean silhouette.

    It tries L / 2, then 0.8 times the previous K, down to L / 64 (at least 2). Smaller K are not tried,
    because the largest differences in speech (two kinds of microphone, high and low voices) can give two
    clusters with the best silhouette that are of no use. Ties go to the larger K. Silhouettes are averaged
    over at most 20,000 rows, evenly spaced. If the vectors hardly separate voices, the silhouette is not
    informative either
    and the choice is often at an end of the range: whiten the vectors, or set the number of clusters.

    Args:
        x: (N, D) the vectors that the tree was built from.
        tree: with at least one leaf.
    """
    sample = torch.arange(0, len(x), -(-len(x) // _ROWS), device=x.device)
    best, chosen = -2.0, max(tree.leaves // 2, 1)
    k = chosen
    while k >= max(tree.leaves // 64, 2):
        score = silhouette(x, tree.cut(k), sample)
        if score > best:
            best, chosen = score, k
        k = min(int(0.8 * k), k - 1)
    return chosen
