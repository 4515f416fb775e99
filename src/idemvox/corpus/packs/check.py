"""Check a pack: is every sample still what was packed?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from idemvox.corpus.packs.pack import advance, file_hash
from idemvox.corpus.packs.packed import IDS, Lines, checksum, load_index, read_header
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

__all__ = ["CheckSummary", "check"]

BLOCK = 64  # utterances that a thread checks at a time
PIECE = 1 << 23  # bytes read at a time: memory stays bounded however long the utterance


@dataclass(frozen=True, slots=True)
class CheckSummary:
    """What a check of a pack found."""

    folder: Path
    utterances: int
    damaged: tuple[str, ...]  # ids of utterances whose samples are not those that were packed
    files: tuple[str, ...]  # names of other files that have changed


def check(out: str | Path, *, workers: int | None = None, progress: bool = True) -> CheckSummary:
    """Read a whole pack and compare every utterance, and the index and names, with their hashes.

    Args:
        out: folder of the pack.
        workers: threads that read; None takes one per core.
        progress: draw a progress bar.

    Raises:
        CorpusError: no finished pack, or an index that cannot be opened at all.
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
            some = rows[block : block + BLOCK]
            bad = [block + n for n, row in enumerate(some) if not _intact(files, row)]
            return bad, 2 * int(some["samples"].sum())

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
    """Open a shard until the stack ends; None if that cannot be done."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    return descriptor


def _intact(files: Sequence[int | None], row: np.void) -> bool:
    """Whether a row's samples are those that were packed; a shard that is short or missing has none."""
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
