"""Tables on disk: rows of one size by 128-bit key, to which several processes add at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

__all__ = ["KEY_BYTES", "Keys", "Table"]

Keys = NDArray[np.uint8]
"""(N, 16): a key in each row."""

KEY_BYTES = 16
COMMIT_BYTES = 32 << 20
COMMIT_SECONDS = 20.0
_ABANDONED = 86_400.0  # seconds after which an unfinished file is that of a killed process


class Table:
    """Rows of numbers by key, in files that never change once they are there.

    Rows that are added are collected in memory and written after 32 MiB or 20 s, and by :meth:`flush`. A file
    is complete or absent, and is named after the hash of its content; so any number of processes, on one
    machine or on several with a common file system, may add without a lock, and one that is killed loses
    only what it had not written. Rows stay on disk; keys take 24 bytes of memory each.

    Args:
        folder: created when the first rows are written.

    Raises:
        IdemvoxError: a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keys: list[Keys] = []
        self._rows: list[NDArray[Any]] = []
        self._written = time.monotonic()
        self.load()

    def load(self) -> None:
        """Read the keys that are on disk now, also those that others have added."""
        for path in self.folder.glob(".*.part"):
            _remove_abandoned(path)
        self._files = sorted(self.folder.glob("*.safetensors"))
        keys = [_read(path, "keys") for path in self._files]
        self._ends = np.cumsum([len(part) for part in keys], dtype=np.int64)
        halves = np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *keys]).view("<u8")  # (N, 2)
        self._places = np.argsort(halves[:, 0], kind="stable")
        self._halves = halves[self._places]

    def __len__(self) -> int:
        """Number of rows on disk."""
        return len(self._places)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return (N,) the place of each key among the rows on disk, or -1."""
        if not len(self):
            return np.full(len(keys), -1, np.int64)
        wanted = np.ascontiguousarray(keys).view("<u8")
        at = np.minimum(np.searchsorted(self._halves[:, 0], wanted[:, 0]), len(self) - 1)
        return np.where((self._halves[at] == wanted).all(axis=1), self._places[at], -1)

    def rows(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Yield the rows at places (N,), file by file: which of the N they are (n,), and they (n, ...)."""
        order = np.argsort(places, kind="stable")
        bounds = np.searchsorted(places[order], [0, *self._ends])
        for number, path in enumerate(self._files):
            which = order[bounds[number] : bounds[number + 1]]
            if len(which):
                before = self._ends[number - 1] if number else 0
                yield which, _read(path, "rows")[places[which] - before]

    def add(self, keys: Keys, rows: NDArray[Any]) -> None:
        """Add rows (N, ...) with their keys."""
        self._keys.append(keys)
        self._rows.append(rows)
        held = sum(part.nbytes for part in self._rows)
        if held >= COMMIT_BYTES or time.monotonic() - self._written >= COMMIT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added; :meth:`load` makes it visible."""
        self._written = time.monotonic()
        if not self._keys:
            return
        content = save({"keys": np.concatenate(self._keys), "rows": np.concatenate(self._rows)})
        name = hashlib.blake2b(content, digest_size=KEY_BYTES).hexdigest()
        with atomic_write(self.folder / f"{name}.safetensors", "wb") as file:
            file.write(content)
        self._keys, self._rows = [], []


def _read(path: Path, name: str) -> NDArray[Any]:
    """Read the keys or the rows of a file."""
    try:
        with safe_open(path, framework="numpy") as file:
            found: NDArray[Any] = file.get_tensor(name)
            return found
    except (OSError, SafetensorError) as error:
        raise IdemvoxError(f"{path} is damaged ({error}): delete it, and run the command again") from error


def _remove_abandoned(path: Path) -> None:
    try:
        if time.time() - path.stat().st_mtime > _ABANDONED:
            path.unlink()
    except FileNotFoundError:
        return  # another process has finished or removed it
