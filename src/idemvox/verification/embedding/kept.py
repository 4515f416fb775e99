"""Where embeddings are kept while a list is embedded: in memory, or in a cache."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import IdemvoxError
from idemvox.verification.embedding.embeddings import Floats
from idemvox.verification.embedding.group import Block, Group
from idemvox.verification.embedding.table import Keys, Table

__all__ = ["InMemory", "Kept", "OnDisk", "assembled"]


class Kept(Protocol):
    """Embeddings by row.

    Attributes:
        takes: (N,) the row whose embedding each row takes: its own, or that of the first row with the same
            audio.
        done: (N,) whether a row was embedded before.
    """

    takes: NDArray[np.int64]
    done: NDArray[np.bool_]

    def add(self, rows: NDArray[np.int64], vectors: Floats) -> None:
        """Keep the vectors (n, ...) of rows (n,)."""

    def flush(self) -> None:
        """Write what is kept, as far as it is kept on a disk."""

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        """Yield the vectors of rows (n,), in parts and in any order."""

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """Return a matrix to fill."""


class InMemory:
    """Embeddings in memory."""

    def __init__(self, count: int) -> None:
        self.takes = np.arange(count)
        self.done = np.zeros(count, bool)
        self._blocks: list[Block] = []

    def add(self, rows: NDArray[np.int64], vectors: Floats) -> None:
        self._blocks.append((rows, vectors))

    def flush(self) -> None:
        pass

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        yield from self._blocks

    def empty(self, shape: tuple[int, ...]) -> Floats:
        return np.empty(shape, np.float32)


class OnDisk:
    """Embeddings in a table of the cache.

    Audio that several rows share is embedded once, so that a command which was killed and run again embeds in
    the same batches, and ends with the same bits, as one that was not.

    Args:
        table: the table.
        keys: (N, 16) key of each row.
    """

    def __init__(self, table: Table, keys: Keys) -> None:
        _, row, of = np.unique(keys.view("<u8"), axis=0, return_index=True, return_inverse=True)
        self.takes = row[of.reshape(-1)]
        self.done = table.find(keys) >= 0
        self._table, self._keys = table, keys

    def add(self, rows: NDArray[np.int64], vectors: Floats) -> None:
        self._table.add(self._keys[rows], vectors)

    def flush(self) -> None:
        self._table.flush()

    def blocks(self, rows: NDArray[np.int64]) -> Iterator[Block]:
        self._table.flush()
        self._table.load()
        places = self._table.find(self._keys[rows])
        if (places < 0).any():
            raise IdemvoxError(
                f"files in {self._table.folder} were deleted while they were in use: run the command again"
            )
        for which, vectors in self._table.rows(places):
            yield rows[which], vectors

    def empty(self, shape: tuple[int, ...]) -> Floats:
        """Return a matrix that is mapped to a file without a name, which ends with it."""
        with tempfile.TemporaryFile(dir=self._table.folder) as file:
            return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))


def assembled(kept: Kept, rows: NDArray[np.int64], group: Group) -> Floats | None:
    """Return in rank 0 the matrix of all embeddings; ``None`` in the other processes.

    Args:
        kept: holds the embeddings of this process's share.
        rows: (n,) its share.
        group: the processes.
    """
    matrix: Floats | None = None

    def receive(block: Block) -> None:
        nonlocal matrix
        place, vectors = block
        if matrix is None:
            matrix = kept.empty((len(kept.takes), *vectors.shape[1:]))
        matrix[place] = vectors

    group.deliver(kept.blocks(rows), receive)
    if matrix is not None:
        copies = np.flatnonzero(kept.takes != np.arange(len(kept.takes)))
        matrix[copies] = matrix[kept.takes[copies]]
    return matrix
