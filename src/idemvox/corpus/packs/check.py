"""Verify a pack by its hashes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idemvox.corpus.packs.pack import advance
from idemvox.corpus.packs.packed import IDS, Lines, checksum, load_index, read_header
from idemvox.files import file_hash
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

__all__ = ["CheckSummary", "check"]

BLOCK = 64  # utterances that a thread checks at a time
PIECE = 1 << 23  # bytes read at a time, to bound memory for utterances of any length


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """The result of verifying a pack.

    Attributes:
        folder: folder of the pack.
        utterances: number of utterances.
        damaged: ids of utterances whose samples have changed.
        files: names of other files that have changed.
    """

    folder: Path
    utterances: int
    damaged: tuple[str, ...]
    files: tuple[str, ...]


def check(out: str | Path, *, workers: int | None = None, progress: bool = True) -> CheckSummary:
    """Read a whole pack and compare all utterances, the index and the names with their hashes.

    Args:
        out: folder of the pack.
        workers: number of threads that read; None for one per core.
        progress: show a progress bar.

    Raises:
        CorpusError: there is no finished pack, or its index cannot be opened.
    """
    out, workers = Path(out), workers or os.cpu_count() or 1
    header = read_header(out)
    rows = load_index(out, header)
    changed = [name for name, hashed in header.files.items() if not _unchanged(out / name, hashed)]
    damaged: list[int] = []
    size = 0
    began = time.monotonic()
    with ExitStack() as stack:
        files = [_maybe_open(out / name, stack) for name in header.shards]

        def look(block: int) -> tuple[list[int], int]:
            part = rows[block : block + BLOCK]
            bad = [block + n for n, row in enumerate(part) if not _intact(files, row)]
            return bad, 2 * int(part["samples"].sum())

        bar = stack.enter_context(task_bar("checking", len(rows), progress))
        blocks = range(0, len(rows), BLOCK)
        for bad, read in stack.enter_context(closing(read_ahead(look, blocks, workers, 4 * workers))):
            damaged += bad
            size += read
            advance(bar, BLOCK, size, began)
    ids = Lines(out / IDS, len(rows))
    names = [f"number {index}" if IDS in changed else ids[index] for index in damaged]
    return CheckSummary(out, len(rows), tuple(names), tuple(changed))


def _unchanged(file: Path, hashed: str) -> bool:
    return file.is_file() and file_hash(file) == hashed


def _maybe_open(file: Path, stack: ExitStack) -> int | None:
    """Open a shard until the stack is closed; return None if that fails."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor


def _intact(files: Sequence[int | None], row: np.void) -> bool:
    """Return whether a row's samples are unchanged; False if its shard is missing or too short."""
    shard = int(row["shard"])
    file = files[shard] if 0 <= shard < len(files) else None
    if file is None or row["offset"] < 0 or row["samples"] <= 0:
        return False
    try:
        return checksum(_pieces(file, 2 * int(row["offset"]), 2 * int(row["samples"]))) == int(row["hash"])
    except OSError:
        return False


def _pieces(file: int, position: int, left: int) -> Iterator[bytes]:
    while left and (piece := os.pread(file, min(left, PIECE), position)):
        yield piece
        position, left = position + len(piece), left - len(piece)
