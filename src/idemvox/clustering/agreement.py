"""Agreement of two partitions."""

from __future__ import annotations

from torch import Tensor

__all__ = ["adjusted_rand"]


def _pairs(count: Tensor) -> float:
    """Return the number of pairs within groups of these sizes."""
    count = count.double()
    return float((count * (count - 1)).sum() / 2)


def adjusted_rand(a: Tensor, b: Tensor) -> float:
    """Return the adjusted Rand index (Hubert & Arabie, 1985) of two partitions.

    It is 1 for the same partition, however its clusters are numbered, and 0 on average for random ones.

    Args:
        a, b: (N,) cluster of each item, from 0.
    """
    if len(a) < 2:
        return 1.0
    both = _pairs((a.long() * (int(b.max()) + 1) + b).unique(return_counts=True)[1])
    first, second = _pairs(a.unique(return_counts=True)[1]), _pairs(b.unique(return_counts=True)[1])
    expected = first * second / (len(a) * (len(a) - 1) / 2)
    most = (first + second) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)
