"""Processes that embed one list together: each its share, which rank 0 receives.

One process needs no torch for this.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import RunError
from idemvox.verification.embedding.embeddings import Floats

__all__ = ["Block", "Group"]

S = TypeVar("S", bound=Sequence[Any] | NDArray[Any])
Block = tuple[NDArray[np.int64], Floats]
"""Rows (n,) of the matrix, and their vectors (n, D) or (n, crops, D)."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that share the work; on its own a process is a group of one.

    The process group of torch must exchange tensors on the CPU, as gloo does.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Group:
        """Return the process group that this process has joined, if any."""
        if sys.modules.get("torch") is None:  # nobody can have joined one
            return cls()
        from idemvox import ranks

        return cls(ranks.rank(), ranks.world())

    @property
    def first(self) -> bool:
        """Whether this process receives the results."""
        return self.rank == 0

    def share(self, items: S) -> S:
        """Return this process's share: every W-th item. Shares of batches sorted by length are alike."""
        return cast(S, items[self.rank :: self.world])

    def collect(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return the rows (N, ...) of all processes, process by process."""
        if self.world == 1:
            return rows
        import torch

        from idemvox import ranks

        with _together():
            found: NDArray[Any] = ranks.collect(torch.from_numpy(np.ascontiguousarray(rows))).numpy()
        return found

    def agreed(self, flag: bool) -> bool:
        """Return the flag of rank 0."""
        return bool(self.collect(np.array([flag]))[0])

    def deliver(self, blocks: Iterable[Block], receive: Callable[[Block], None]) -> None:
        """Pass the blocks of all processes to rank 0's ``receive``, one at a time."""
        if self.first:
            for block in blocks:
                receive(block)
            for rank in range(1, self.world):
                for block in _received(rank):
                    receive(block)
            return
        for rows, vectors in blocks:
            shape = [*vectors.shape, 0][:3]
            _send(np.array([vectors.ndim, *shape]), rows, vectors)
        _send(np.zeros(4, np.int64))


def _send(*arrays: NDArray[Any]) -> None:
    import torch
    from torch import distributed as dist

    with _together():
        for array in arrays:
            dist.send(torch.from_numpy(np.ascontiguousarray(array)), 0)


def _received(rank: int) -> Iterator[Block]:
    """Yield the blocks that a process sends, up to a head of zeros."""
    import torch
    from torch import distributed as dist

    while True:
        head = torch.zeros(4, dtype=torch.int64)
        with _together():
            dist.recv(head, rank)
            dimensions, *shape = head.tolist()
            if not dimensions:
                return
            rows, vectors = torch.empty(shape[0], dtype=torch.int64), torch.empty(shape[:dimensions])
            dist.recv(rows, rank)
            dist.recv(vectors, rank)
        yield rows.numpy(), vectors.numpy()


@contextmanager
def _together() -> Iterator[None]:
    """Turn the end of a connection into an error that says what happened."""
    try:
        yield
    except RuntimeError as error:  # of torch.distributed
        raise RunError(
            "another process of this command has stopped; its own message says why. Then run the command "
            "again: with a cache or into a folder, it resumes"
        ) from error
