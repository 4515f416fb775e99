"""Find audio files and decode every one of them once, in parallel, resumably, to learn what is in them."""

from __future__ import annotations

import json
import math
import os
import stat
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
_AHEAD = 64  # files that each thread may be ahead of the first that is not done: only facts are held
BLOCK = 1 << 17  # frames decoded at a time: memory stays bounded however long the file

F = TypeVar("F", bound="Facts")
Mark = tuple[str, int, int]
Hear = Callable[[npt.NDArray[np.float32], int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What a walk through a folder found."""

    files: list[str]  # relative to the folder, forward slashes, sorted
    others: Counter[str]  # how many files of each other suffix, hidden names, pipes and devices
    closed: list[tuple[str, str]]  # folders that could not be listed, and why


@dataclass(frozen=True, slots=True)
class Facts:
    """What decoding a file from end to end told: no judgement, so that a journal outlives new settings."""

    frames: int = 0  # decoded, per channel
    rate: int = 0  # Hz
    channels: int = 0
    peak: float = 0.0  # of what reading gives; full scale is 1; NaN if any sample is not a number
    promised: int = 0  # frames that the header speaks of
    ended: bool = True  # False: an Ogg stream without its end mark
    fault: str = ""  # why it could not be decoded; "" if it could
    decoder: str = ""  # which one opened it
    slack: float = 0.0  # seconds by which the header of a good file of its kind may be wrong
    sound: float = math.inf  # seconds from the first sound to the last; inf: not to be asked for
    cancelled: bool = False  # the channels are each other's opposite: the louder one is read

    @property
    def seconds(self) -> float:
        """Length of what was decoded."""
        return self.frames / self.rate if self.rate else 0.0


def find_audio(folder: Path) -> Found:
    """Every audio file below a folder; hidden names are skipped, links followed, each folder listed once."""
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
    """Decode a file from end to end, a block at a time.

    A file that cannot be decoded, for whatever reason, is a fact too (``fault``), not an error. A set
    ``stop`` ends it early, with what is known so far. ``hear`` is called with every block,
    (T,), made of all channels as reading does, and the rate.
    """
    facts = Facts()
    heard: _Ear | None = None
    try:
        _refuse_special(path)
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
    except Exception as error:  # noqa: BLE001 - whatever one file does to a decoder, a million others wait
        fault = f"reading it failed with {type(error).__name__}: {error}"
    return replace(facts, fault=fault, **(heard.facts() if heard else {}))


class _Ear:
    """What is learnt from the samples of a file, block by block."""

    def __init__(self, rate: int, hear: Hear | None) -> None:
        self._rate, self._hear = rate, hear
        self._activity = Activity(rate)
        self._frames, self._peak, self._cancelled = 0, 0.0, False

    def feed(self, block: npt.NDArray[np.float32]) -> None:
        """Hear the next samples, (T, channels)."""
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
        """The fields of :class:`Facts` that this gives."""
        peak = self._peak if math.isfinite(self._peak) else math.nan
        sound = round(self._activity.seconds(), 2)
        return {"frames": self._frames, "peak": peak, "sound": sound, "cancelled": self._cancelled}


def _refuse_special(path: Path) -> None:
    """Opening a pipe would wait for ever, and a device may never end."""
    mode = path.stat().st_mode if path.exists() else stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise AudioError("a pipe or device, not a file")


def examine_all(
    files: Sequence[Path], journal: Path, workers: int | None = None, progress: bool = True
) -> list[Facts]:
    """Examine files as :func:`examined` does; give the facts of all of them, in their order."""
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
    """Examine files in parallel and give each one's index and facts, in their order.

    ``journal`` remembers what is done, so that an interrupted scan goes on. It is left in place: the caller
    deletes it when the result is safe. A file whose size or time of change is not what the journal says is
    examined again.

    Args:
        look: examines a file; ends early when the event is set.
        revive: makes facts of a path and the fields in the journal; ValueError: of no use any more.

    Raises:
        KeyboardInterrupt: with a message that says how far it came and how to go on.
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
        if not fact.fault and not stop.is_set():  # a fault may pass: look again next time
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
                f"stopped after {done} of {len(files)} files; run the same command again to go on"
            ) from error


def _mark(path: Path) -> Mark:
    """What tells one state of a file from another: name, size, time of change."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # ValueError: not a possible name
        return os.fspath(path), -1, -1
    return os.fspath(path), status.st_size, status.st_mtime_ns


def _open_journal(journal: Path) -> IO[str]:
    """Open the journal for adding lines; a line goes to disk as soon as it is written."""
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        file = journal.open("a", encoding="utf-8", buffering=1)
        file.write("\n")  # ends a line that a killed scan left half written
        return file
    except OSError as error:
        raise CorpusError(f"cannot write {journal}: {error.strerror}; choose another output") from error


def _read_journal(journal: Path, revive: Callable[[str, list[Any]], F]) -> dict[Mark, F]:
    """Facts by mark; unreadable lines (a scan that was killed) are as if they were not there."""
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
