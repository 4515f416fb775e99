"""The shards of a pack while they are written, and the journal by which a killed run goes on.

The journal has a first line that says what is packed, and then a JSON line for each utterance, in order:
``[samples, hash]``, or why it was left out. A line is written after its samples are on disk (fsync). What
the shards hold beyond the journal is cut off when the work goes on, and so is a half-written line. Where an
utterance lies follows from the lengths before it, so both together say everything.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from idemvox.arrays import Pcm
from idemvox.corpus.packs.packed import HEADER, IDS, INDEX, PROBLEMS, RECORDINGS, ROW, SPEAKERS
from idemvox.errors import CorpusError

__all__ = ["JOURNAL", "Shards", "locked_journal", "refuse_others", "sweep", "sync_folder"]

JOURNAL = "journal"
COMMIT_BYTES = 64 << 20
COMMIT_SECONDS = 5.0

NAMES = "|".join(map(re.escape, (HEADER, INDEX, IDS, SPEAKERS, RECORDINGS, PROBLEMS, JOURNAL)))
PART = re.compile(rf"\.({NAMES})\..+\.part")  # what a killed atomic_write leaves
OURS = re.compile(rf"{NAMES}|{PART.pattern}|shard-\d{{5,}}\.pcm")

log = logging.getLogger(__name__)


def refuse_others(folder: Path) -> None:
    """Refuse a folder with anything in it that packing did not put there."""
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"{folder} is a file; name a folder to pack into")
    names = set(os.listdir(folder)) if folder.exists() else set()
    begun = names & {HEADER, JOURNAL}
    strange = {n for n in names if not (OURS if begun else PART).fullmatch(n) and (begun or n != PROBLEMS)}
    if strange:
        raise CorpusError(f"{folder} holds other things ({min(strange)}); name a new or an empty folder")


def sweep(folder: Path) -> None:
    """Delete what a killed run left half-written beside its journal."""
    for name in filter(PART.fullmatch, os.listdir(folder)):
        os.unlink(folder / name)


@contextmanager
def locked_journal(folder: Path) -> Iterator[int]:
    """Open the folder's journal, new or old, for this process alone; the lock ends with the process.

    Raises:
        CorpusError: another process has it.
    """
    file = folder / JOURNAL
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, folder)
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                yield descriptor
                return
        finally:
            os.close(descriptor)  # after the yield, or where whoever had the lock has finished and deleted it


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CorpusError(
            f"another process is packing into {folder}; wait for it, or choose another"
        ) from error
    except OSError as error:  # some network file systems
        log.warning("%s cannot be locked (%s): let no other process pack into it", folder, error.strerror)


class Shards:
    """Writes utterances one after the other; goes on where the journal ends.

    Args:
        folder: of the pack.
        journal: its open journal.
        job: what is packed, and how; written into a new journal, compared with an old one.
        count: utterances of the manifest.

    Attributes:
        rows: (count,) of ``ROW``, speaker and recording unknown; those up to ``next`` that are not among the
            ``problems`` are filled in.
        problems: number of an utterance -> why it was left out.
        next: number of the utterance that comes next.

    Raises:
        CorpusError: the journal is of another job, or the shards do not hold what it says.
    """

    def __init__(self, folder: Path, journal: int, job: Mapping[str, Any], count: int) -> None:
        self.folder, self.journal = folder, journal
        self.rows = np.zeros(count, ROW)
        self.rows["speaker"] = self.rows["recording"] = -1
        self.problems: dict[int, str] = {}
        self.next = 0
        self.sizes: list[int] = []  # samples of each shard
        self.most: int = job["shard_samples"]
        self._file: int | None = None  # the last shard, once something is written
        self._lines: list[str] = []  # of the journal, not yet written
        self._waiting, self._since = 0, time.monotonic()
        self._recall(job)
        self._tidy()

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def names(self) -> list[str]:
        """File names of the shards so far."""
        return [_name(number) for number in range(len(self.sizes))]

    def add(self, pcm: Pcm, checksum: int) -> None:
        """Write the next utterance."""
        if self._place(len(pcm), checksum):
            self.commit()
            self._open(len(self.sizes) - 1)
        elif self._file is None:
            self._open(len(self.sizes) - 1)
        assert self._file is not None
        _write(self._file, pcm.data.cast("B"))
        self._note([len(pcm), checksum], 2 * len(pcm))

    def leave_out(self, reason: str) -> None:
        """Note that the next utterance cannot be read."""
        self.problems[self.next] = reason
        self.next += 1
        self._note(reason, 0)

    def commit(self) -> None:
        """Bring everything so far safely to disk."""
        if self._file is not None:
            os.fsync(self._file)
        if self._lines:
            _write(self.journal, memoryview("".join(self._lines).encode()))
            os.fsync(self.journal)
        self._lines, self._waiting, self._since = [], 0, time.monotonic()

    def _note(self, entry: list[int] | str, size: int) -> None:
        self._lines.append(json.dumps(entry) + "\n")
        self._waiting += size
        if self._waiting >= COMMIT_BYTES or time.monotonic() - self._since >= COMMIT_SECONDS:
            self.commit()

    def _place(self, samples: int, checksum: int) -> bool:
        """Fill in the next utterance's row; return whether it begins a shard."""
        new = not self.sizes or self.sizes[-1] + samples > self.most
        if new:
            self.sizes.append(0)
        self.rows[self.next] = (self.sizes[-1], samples, checksum, len(self.sizes) - 1, -1, -1)
        self.sizes[-1] += samples
        self.next += 1
        return new

    def _open(self, number: int) -> None:
        """Go on with a shard, which may be new."""
        if self._file is not None:
            os.close(self._file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self.folder / _name(number), flags, 0o666)
        sync_folder(self.folder)

    def _recall(self, job: Mapping[str, Any]) -> None:
        """Take over what the journal says, up to the first line that is not whole."""
        size = os.fstat(self.journal).st_size
        lines = os.pread(self.journal, size, 0).split(b"\n")[:-1]
        first = json.dumps(job).encode()
        valid = 0
        if lines and lines[0] == first:
            valid = len(first) + 1 + self._replay(lines[1:])
        elif lines:
            raise CorpusError(
                f"{self.folder} holds a half-finished pack of another manifest, or with another --shard-gib: "
                "go on with the same command as before, or delete the folder to begin anew"
            )
        if valid < size:
            os.ftruncate(self.journal, valid)
        if not valid:
            _write(self.journal, memoryview(first + b"\n"))
        os.fsync(self.journal)
        sync_folder(self.folder)

    def _replay(self, lines: list[bytes]) -> int:
        """Fill in what the lines say; return how many bytes were understood."""
        valid = 0
        for line in lines[: len(self.rows)]:
            try:
                entry = json.loads(line)
                if isinstance(entry, str):
                    self.problems[self.next] = entry
                    self.next += 1
                else:
                    self._place(*entry)
            except (ValueError, TypeError):
                break
            valid += len(line) + 1
        return valid

    def _tidy(self) -> None:
        """Cut off, or delete, what the shards hold beyond the journal."""
        for file in self.folder.glob("shard-*.pcm"):
            if file.name not in self.names():
                file.unlink()
        for name, samples in zip(self.names(), self.sizes, strict=True):
            file = self.folder / name
            size = file.stat().st_size if file.exists() else 0
            if size < 2 * samples or (size > 2 * samples and name != self.names()[-1]):
                raise CorpusError(
                    f"{file} is not as long as the journal says; delete {self.folder} to begin anew"
                )
            if size > 2 * samples:
                os.truncate(file, 2 * samples)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder safely to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(number: int) -> str:
    return f"shard-{number:05}.pcm"


def _write(file: int, content: memoryview) -> None:
    """Write all of it; the system may take less at a time."""
    while len(content):
        content = content[os.write(file, content) :]
