"""Writing the shards of a pack, with a journal from which a killed run resumes.

The first line of the journal says what is packed. Then comes a JSON line for each utterance, in order:
``[samples, hash]``, or why it was left out. A line is written after its samples are on disk (fsync). On
resuming, samples beyond the journal and a partial last line are cut off. An utterance's position follows from
the lengths before it, so journal and shards together are complete.
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

__all__ = ["JOURNAL", "PackWriter", "locked_journal", "refuse_others", "remove_temporary", "sync_folder"]

JOURNAL = "journal"
COMMIT_BYTES = 64 << 20
COMMIT_SECONDS = 5.0

NAMES = "|".join(map(re.escape, (HEADER, INDEX, IDS, SPEAKERS, RECORDINGS, PROBLEMS, JOURNAL)))
PART = re.compile(rf"\.({NAMES})\..+\.part")  # left by a killed atomic_write
OURS = re.compile(rf"{NAMES}|{PART.pattern}|shard-\d{{5,}}\.pcm")

log = logging.getLogger(__name__)


def refuse_others(folder: Path) -> None:
    """Raise an error if a folder has files that packing did not write."""
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"{folder} is a file; give a folder to pack into")
    names = set(os.listdir(folder)) if folder.exists() else set()
    started = names & {HEADER, JOURNAL}
    others = {n for n in names if not (OURS if started else PART).fullmatch(n) and (started or n != PROBLEMS)}
    if others:
        raise CorpusError(f"{folder} holds other files ({min(others)}); give a new or empty folder")


def remove_temporary(folder: Path) -> None:
    """Delete temporary files that a killed run left."""
    for name in filter(PART.fullmatch, os.listdir(folder)):
        os.unlink(folder / name)


@contextmanager
def locked_journal(folder: Path) -> Iterator[int]:
    """Open the folder's journal, new or old, with a lock for this process that ends with it.

    Raises:
        CorpusError: another process has the lock.
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
            os.close(
                descriptor
            )  # after the yield, or if the process that had the lock has finished and deleted the journal


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CorpusError(
            f"another process is packing into {folder}; wait for it, or choose another"
        ) from error
    except OSError as error:  # on some network file systems
        log.warning(
            "%s cannot be locked (%s): make sure that no other process packs into it", folder, error.strerror
        )


class PackWriter:
    """Writes utterances one after the other; continues where the journal ends.

    Args:
        folder: folder of the pack.
        journal: descriptor of the open journal.
        job: what is packed, and how; written into a new journal, compared with an old one.
        count: number of utterances in the manifest.

    Attributes:
        rows: (count,) rows of ``ROW`` without speaker and recording; filled in up to ``next``, except for
            ``problems``.
        problems: index of an utterance -> why it was left out.
        next: index of the next utterance.

    Raises:
        CorpusError: the journal is from another job, or does not match the shards.
    """

    def __init__(self, folder: Path, journal: int, job: Mapping[str, Any], count: int) -> None:
        self.folder, self.journal = folder, journal
        self.rows = np.zeros(count, ROW)
        self.rows["speaker"] = self.rows["recording"] = -1
        self.problems: dict[int, str] = {}
        self.next = 0
        self.sizes: list[int] = []  # samples of each shard
        self.most: int = job["shard_samples"]
        self._file: int | None = None  # the last shard, once it is open
        self._lines: list[str] = []  # lines of the journal, not yet written
        self._waiting, self._since = 0, time.monotonic()
        self._restore(job)
        self._truncate()

    def __enter__(self) -> PackWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def names(self) -> list[str]:
        """Return the file names of the shards so far."""
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
        """Record that the next utterance cannot be read."""
        self.problems[self.next] = reason
        self.next += 1
        self._note(reason, 0)

    def commit(self) -> None:
        """Sync everything so far to disk."""
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
        """Fill in the next utterance's row; return whether it starts a shard."""
        new = not self.sizes or self.sizes[-1] + samples > self.most
        if new:
            self.sizes.append(0)
        self.rows[self.next] = (self.sizes[-1], samples, checksum, len(self.sizes) - 1, -1, -1)
        self.sizes[-1] += samples
        self.next += 1
        return new

    def _open(self, number: int) -> None:
        """Open a shard, new or old, for appending."""
        if self._file is not None:
            os.close(self._file)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self.folder / _name(number), flags, 0o666)
        sync_folder(self.folder)

    def _restore(self, job: Mapping[str, Any]) -> None:
        """Restore the state from the journal, up to the first incomplete line."""
        size = os.fstat(self.journal).st_size
        lines = os.pread(self.journal, size, 0).split(b"\n")[:-1]
        first = json.dumps(job).encode()
        valid = 0
        if lines and lines[0] == first:
            valid = len(first) + 1 + self._replay(lines[1:])
        elif lines:
            raise CorpusError(
                f"{self.folder} holds an unfinished pack of another manifest, or with another --shard-gib: "
                "resume with the same command as before, or delete the folder to start over"
            )
        if valid < size:
            os.ftruncate(self.journal, valid)
        if not valid:
            _write(self.journal, memoryview(first + b"\n"))
        os.fsync(self.journal)
        sync_folder(self.folder)

    def _replay(self, lines: list[bytes]) -> int:
        """Restore the state from the lines; return the number of valid bytes."""
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

    def _truncate(self) -> None:
        """Cut off samples beyond the journal, and delete shards beyond it."""
        for file in self.folder.glob("shard-*.pcm"):
            if file.name not in self.names():
                file.unlink()
        for name, samples in zip(self.names(), self.sizes, strict=True):
            file = self.folder / name
            size = file.stat().st_size if file.exists() else 0
            if size < 2 * samples or (size > 2 * samples and name != self.names()[-1]):
                raise CorpusError(
                    f"{file} does not have the length in the journal; delete {self.folder} to start over"
                )
            if size > 2 * samples:
                os.truncate(file, 2 * samples)


def sync_folder(folder: Path) -> None:
    """Sync the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(number: int) -> str:
    return f"shard-{number:05}.pcm"


def _write(file: int, content: memoryview) -> None:
    """Write all content, in several calls if needed."""
    while len(content):
        content = content[os.write(file, content) :]
