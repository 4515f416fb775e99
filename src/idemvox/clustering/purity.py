"""How well clusters match labels; for diagnostics only."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["nmi", "pair_share", "purity"]

Numbers = npt.NDArray[np.integer]


def _table(cluster: Numbers, label: Numbers) -> tuple[Numbers, Numbers]:
    """Return the cluster and the count of each (cluster, label) pair; pairs with a -1 are left out."""
    known = (cluster >= 0) & (label >= 0)
    pair = cluster[known].astype(np.int64) * (int(label.max(initial=0)) + 1) + label[known]
    pairs, count = np.unique(pair, return_counts=True)
    return pairs // (int(label.max(initial=0)) + 1), count


def purity(cluster: Numbers, label: Numbers) -> float | None:
    """Return the share of rows whose label is the most frequent in their cluster; ``None`` without rows.

    Args:
        cluster: (N,), -1 for none.
        label: (N,), -1 where unknown.
    """
    where, count = _table(cluster, label)
    if not len(count):
        return None
    most = np.zeros(int(where.max()) + 1, np.int64)
    np.maximum.at(most, where, count)
    return float(most.sum() / count.sum())


def pair_share(cluster: Numbers, label: Numbers) -> float | None:
    """Return the share of pairs within clusters that have the same label; ``None`` without pairs."""
    where, count = _table(cluster, label)
    size = np.bincount(where, weights=count)
    pairs = float((size * (size - 1)).sum())
    return float((count * (count - 1)).sum()) / pairs if pairs else None


def nmi(cluster: Numbers, label: Numbers) -> float | None:
    """Return the normalised mutual information of clusters and labels; ``None`` without rows.

    It is I(cluster; label) divided by the mean of the two entropies: 1 if they are the same partition, 0 if
    one says nothing of the other.

    Args:
        cluster, label: as for :func:`purity`.
    """
    known = (cluster >= 0) & (label >= 0)
    if not known.any():
        return None
    one, other = _entropy(cluster[known]), _entropy(label[known])
    both = _entropy(cluster[known].astype(np.int64) * (int(label.max()) + 1) + label[known])
    return 1.0 if one + other == 0 else max(0.0, 2 * (one + other - both) / (one + other))


def _entropy(values: Numbers) -> float:
    """Return the entropy of how often each value occurs, in nats."""
    share = np.unique(values, return_counts=True)[1] / len(values)
    return float(-(share * np.log(share)).sum())
