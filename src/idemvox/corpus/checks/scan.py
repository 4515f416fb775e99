"""Scanning: find audio files and decode each of them once, in parallel and resumably."""

from __future__ import annotations

import json
import math
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import numpy.typing as npt

from idemvox.audio.decoders import SUFFIXES, open_audio
from idemvox.audio.read import cancelling, mono
from idemvox.audio.speech import Activity
from idemvox.errors import AudioError, CorpusError
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

__all__ = ["Facts", "Found", "examine", "examine_all", "examined", "find_audio"]

SILENCE = 1e-3  # peak below -60 dB of full scale
_AHEAD = 64  # files per thread that may be finished before their turn; only their facts are held
BLOCK = 1 << 17  # frames decoded at a time, to bound memory for files of any length

F = TypeVar("F", bound="Facts")
Mark = tuple[str, int, int]
Hear = Callable[[npt.NDArray[np.float32], int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """The files below a folder.

    Attributes:
        files: sorted paths of audio files relative to the folder, with forward slashes.
        others: number of other files by suffix, and of hidden names, pipes and devices.
        closed: folders that could not be listed, and why.
    """

    files: list[str]
    others: Counter[str]
    closed: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Measurements of a completely decoded file; thresholds are applied later, so a journal stays valid.

    Attributes:
        frames: decoded samples per channel.
        rate: sampling rate in Hz.
        channels: number of channels.
        peak: highest absolute value after mixing to one channel, full scale at 1; NaN if a sample is not
            finite.
        promised: samples per channel according to the header.
        ended: False for an Ogg stream without its end mark.
        fault: why it could not be decoded; "" if it could.
        decoder: the decoder that opened it.
        slack: seconds by which the header of an intact file of its kind may be wrong.
        sound: seconds from the first sound to the last; inf if this does not matter.
        cancelled: whether the channels cancel each other, so that the louder one is read.
    """

    frames: int = 0
    rate: int = 0
    channels: int = 0
    peak: float = 0.0
    promised: int = 0
    ended: bool = True
    fault: str = ""
    decoder: str = ""
    slack: float = 0.0
    sound: float = math.inf
    cancelled: bool = False

    @property
    def seconds(self) -> float:
        """Decoded length in seconds."""
        return self.frames / self.rate if self.rate else 0.0


def find_audio(folder: Path) -> Found:
    """Return the audio files below a folder; hidden names are skipped, links followed, no folder twice."""
    files: list[str] = []
    others: Counter[str] = Counter()
    closed: list[tuple[str, str]] = []
    real, links, seen = deque([""]), deque[str](), set[tuple[int, int]]()
    while real or links:
        below = real.popleft() if real else links.popleft()
        try:
            status = (folder / below).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
        except OSError as error:
            closed.append((below or ".", error.strerror or str(error)))
            continue
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                others["hidden"] += 1
            elif os.path.isdir(entry):
                (links if entry.is_symlink() else real).append(name)
            elif suffix not in SUFFIXES:
                others[suffix] += 1
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                files.append(name)
            else:
                others["pipe or device"] += 1
    return Found(sorted(files), others, closed)


def examine(path: Path, stop: threading.Event | None = None, hear: Hear | None = None) -> Facts:
    """Decode a whole file, block by block, and measure it.

    A file that cannot be decoded gives a ``fault``, not an error. Setting ``stop`` ends it early, with the
    measurements so far. ``hear`` is called with every block, (T,), mixed to one channel as in reading, and
    the rate.
    """
    facts = Facts()
    heard: _Ear | None = None
    try:
        with open_audio(path) as file:
            facts = Facts(
                rate=file.samplerate,
                channels=file.channels,
                promised=file.promised,
                ended=file.ended,
                decoder=file.decoder,
                slack=file.slack,
            )
            heard = _Ear(file.samplerate, hear)
            while not (stop and stop.is_set()):
                block = file.read(BLOCK, dtype="float32", always_2d=True)  # (T, channels)
                if not len(block):
                    break
                heard.feed(block)
            fault = ""
    except AudioError as error:
        fault = str(error).removeprefix(f"cannot read {path}: ")
    except Exception as error:  # noqa: BLE001 - one file that crashes a decoder must not stop the scan of all others
        fault = f"reading it failed with {type(error).__name__}: {error}"
    return replace(facts, fault=fault, **(heard.facts() if heard else {}))


class _Ear:
    """Measures a file's samples, block by block."""

    def __init__(self, rate: int, hear: Hear | None) -> None:
        self._rate, self._hear = rate, hear
        self._activity = Activity(rate)
        self._frames, self._peak, self._cancelled = 0, 0.0, False

    def feed(self, block: npt.NDArray[np.float32]) -> None:
        """Measure the next samples, (T, channels)."""
        wave = mono(block)
        self._frames += len(block)
        peak = np.abs(wave).max()
        self._peak = float(np.maximum(self._peak, peak))  # keeps NaN, unlike max()
        if block.shape[1] > 1 and peak >= SILENCE:
            self._cancelled |= cancelling(block, block.mean(axis=1)) is not None
        self._activity.feed(wave)
        if self._hear:
            self._hear(wave, self._rate)

    def facts(self) -> dict[str, Any]:
        """Return the fields of :class:`Facts` measured here."""
        peak = self._peak if math.isfinite(self._peak) else math.nan
        sound = round(self._activity.seconds(), 2)
        return {"frames": self._frames, "peak": peak, "sound": sound, "cancelled": self._cancelled}


def examine_all(
    files: Sequence[Path], journal: Path, workers: int | None = None, progress: bool = True
) -> list[Facts]:
    """Examine files as :func:`examined` does; return the facts of all of them, in order."""
    facts: list[Facts | None] = [None] * len(files)
    for index, fact in examined(
        files,
        journal,
        workers,
        progress,
        look=lambda path, stop: examine(path, stop),
        revive=_revive,
    ):
        facts[index] = fact
    return [fact for fact in facts if fact is not None]


def _revive(path: str, known: list[Any]) -> Facts:
    if len(known) != len(fields(Facts)):
        raise ValueError("written by another version")
    return Facts(*known)


def examined(
    files: Sequence[str | Path],
    journal: Path,
    workers: int | None = None,
    progress: bool = True,
    *,
    look: Callable[[Path, threading.Event], F],
    revive: Callable[[str, list[Any]], F],
) -> Iterator[tuple[int, F]]:
    """Examine files in parallel; yield each one's index and facts, in order.

    ``journal`` stores the results, so that an interrupted scan can resume. It is kept: the caller deletes it
    when the final result is on disk. A file whose size or modification time differs from the journal is
    examined again.

    Args:
        look: examines a file; returns early if the event is set.
        revive: returns facts from a path and the fields in the journal, or raises ValueError if they are
            outdated.

    Raises:
        KeyboardInterrupt: with a message that says how much is done and how to resume.
    """
    workers = workers or os.cpu_count() or 1
    known = _read_journal(journal, revive)
    done = 0
    stop, writing = threading.Event(), threading.Lock()

    def visit(name: str | Path) -> F:
        path = Path(name)
        mark = _mark(path)
        if mark in known:
            return known[mark]
        fact = look(path, stop)
        if not fact.fault and not stop.is_set():  # a fault may be temporary: examine again next time
            with writing:
                log.write(json.dumps([*mark, *astuple(fact)]) + "\n")
        return fact

    with (
        _open_journal(journal) as log,
        task_bar("checking audio", len(files), progress) as bar,
        closing(read_ahead(visit, files, workers, _AHEAD * workers, stop=stop)) as facts,
    ):
        try:
            for index, fact in enumerate(facts):
                bar.advance(bar.task_ids[0])
                done += 1
                yield index, fact
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"stopped after {done} of {len(files)} files; run the same command again to resume"
            ) from error


def _mark(path: Path) -> Mark:
    """Return the identity of a file's state: name, size and modification time."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: an impossible name
        return os.fspath(path), -1, -1
    return os.fspath(path), status.st_size, status.st_mtime_ns


def _open_journal(journal: Path) -> IO[str]:
    """Open the journal for appending; each line is written at once."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        file = journal.open("a", encoding="utf-8", buffering=1)
        file.write("\n")  # ends a partial line of a killed scan
        return file
    except OSError as error:
        raise CorpusError(f"cannot write {journal}: {error.strerror}; choose another output") from error


def _read_journal(journal: Path, revive: Callable[[str, list[Any]], F]) -> dict[Mark, F]:
    """Return facts by mark; malformed lines, from a killed scan, are ignored."""
    known: dict[Mark, F] = {}
    if not journal.exists():
        return known
    with journal.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                path, size, changed, *rest = json.loads(line)
                known[path, size, changed] = revive(path, rest)
            except (ValueError, TypeError):
                continue
    return known
