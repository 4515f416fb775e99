"""A table of vectors of which every rank holds some rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["Shards"]


class Shards:
    """What ranks tell each other about the rows that each holds a part of; a row is known by its id.

    All ranks call every method, those without rows too, and get the same from it.

    Args:
        x: (n, D) the rows of this rank.
        ids: (n,) int64, distinct over all ranks; default: row numbers, going on from rank to rank.
        sharded: whether ranks hold different rows; if not, or without a process group, this one has all.
    """

    def __init__(self, x: Tensor, ids: Tensor | None = None, sharded: bool = False) -> None:
        self.ranks = dist.get_world_size() if sharded and dist.is_available() and dist.is_initialized() else 1
        self.x = x
        before = sum(self._sizes(x)[: dist.get_rank()]) if self.ranks > 1 else 0
        self.ids = torch.arange(before, before + len(x), device=x.device) if ids is None else ids

    def _sizes(self, x: Tensor) -> list[int]:
        size = torch.tensor([len(x)], device=x.device)
        sizes = [torch.empty_like(size) for _ in range(self.ranks)]
        dist.all_gather(sizes, size)
        return [int(s) for s in sizes]

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks, one rank after the other; ranks may hold different numbers."""
        if self.ranks == 1:
            return x
        sizes = self._sizes(x)
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over ranks, in the place of ``x``."""
        if self.ranks > 1:
            dist.all_reduce(x)
        return x

    def fetch(self, wanted: Tensor) -> Tensor:
        """Return the rows (W, D) of these ids (W,), wherever they are."""
        order = self.ids.argsort()
        here = torch.isin(wanted, self.ids)
        rows = torch.zeros(len(wanted), self.x.shape[1], dtype=self.x.dtype, device=self.x.device)
        rows[here] = self.x[order[torch.searchsorted(self.ids[order], wanted[here])]]
        return self.sum(rows)

    def lowest(self, value: Tensor, count: int) -> Tensor:
        """Return the ids of the ``count`` rows with the lowest values (n,); of equal ones, the lower id."""
        mine = _lowest(value, self.ids, count)
        value, ids = self.gather(value[mine]), self.gather(self.ids[mine])
        return ids[_lowest(value, ids, count)]


def _lowest(value: Tensor, ids: Tensor, count: int) -> Tensor:
    by_id = ids.argsort()
    return by_id[value[by_id].argsort(stable=True)[:count]]
