"""A table of vectors whose rows are spread over ranks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

from idemvox.ranks import collect, rank, world

__all__ = ["RowShards"]


class RowShards:
    """Rows that are spread over ranks and known by their ids.

    All ranks must call every method, even those without rows; all get the same result.

    Args:
        x: (n, D) the rows of this rank.
        ids: (n,) int64, distinct over all ranks; default: row numbers, continued from rank to rank.
        sharded: whether ranks hold different rows; if not, or without a process group, this rank holds all.
    """

    def __init__(self, x: Tensor, ids: Tensor | None = None, sharded: bool = False) -> None:
        self.sharded = sharded and world() > 1
        self.x = x
        if ids is None:
            sizes = self.gather(torch.tensor([len(x)], device=x.device))
            before = int(sizes[: rank()].sum()) if self.sharded else 0
            ids = torch.arange(before, before + len(x), device=x.device)
        self.ids = ids

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks, rank by rank; ranks may hold different numbers of rows."""
        return collect(x) if self.sharded else x

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks, computed in place."""
        if self.sharded:
            dist.all_reduce(x)
        return x

    def fetch(self, wanted: Tensor) -> Tensor:
        """Return the rows (W, D) with these ids (W,), whichever rank holds them."""
        order = self.ids.argsort()
        here = torch.isin(wanted, self.ids)
        rows = torch.zeros(len(wanted), self.x.shape[1], dtype=self.x.dtype, device=self.x.device)
        rows[here] = self.x[order[torch.searchsorted(self.ids[order], wanted[here])]]
        return self.sum(rows)

    def lowest(self, value: Tensor, count: int) -> Tensor:
        """Return the ids of the ``count`` rows with the lowest values (n,); ties go to the lower id."""
        mine = _lowest(value, self.ids, count)
        value, ids = self.gather(value[mine]), self.gather(self.ids[mine])
        return ids[_lowest(value, ids, count)]


def _lowest(value: Tensor, ids: Tensor, count: int) -> Tensor:
    by_id = ids.argsort()
    return by_id[value[by_id].argsort(stable=True)[:count]]
