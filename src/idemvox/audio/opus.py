"""Find Ogg Opus files that libsndfile wrongly rejects as malformed."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

__all__ = ["readable"]

HEADER = 27  # bytes of a page before its segment table
LAST, CONTINUED = 4, 1  # flags of a page
# Samples at 48 kHz in a frame, by configuration number (RFC 6716, table 2)
FRAME = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4


def readable(path: Path) -> bool:
    """Return whether libsndfile can read an Ogg Opus file to its end.

    libsndfile 1.2.2 stops at any page but the last whose position advances by less than its packets hold.
    Some encoders write such pages, and other decoders accept them. Only the page headers are read.
    """
    status = path.stat()
    return _adds_up(os.fspath(path), status.st_size, status.st_mtime_ns)


@lru_cache(4096)
def _adds_up(path: str, size: int, changed: int) -> bool:
    with open(path, "rb") as file:
        page = before = start = 0
        while (head := file.read(HEADER))[:4] == b"OggS" and len(head) == HEADER:
            segments = file.read(head[26])
            granule, flags = int.from_bytes(head[6:14], "little", signed=True), head[5]
            whole = page > 2 and granule >= 0 and not flags & (LAST | CONTINUED)
            if whole and granule - before < _held(file, segments):
                return False
            page, before = page + 1, max(granule, before)
            start += HEADER + len(segments) + sum(segments)
            file.seek(start)
    return True


def _held(file: BinaryIO, segments: bytes) -> int:
    """Samples at 48 kHz of the packets that end in a page, assuming that all are as long as the first."""
    first = file.read(2)
    if len(first) < 2:
        return 0
    frames = (1, 2, 2, first[1] & 63)[first[0] & 3]
    return sum(size < 255 for size in segments) * FRAME[first[0] >> 3] * frames
