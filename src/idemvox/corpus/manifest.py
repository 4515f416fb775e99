"""Manifests: lists of utterances as CSV files, one utterance per row."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

from idemvox.errors import CorpusError
from idemvox.files import atomic_write

__all__ = ["Manifest", "Utterance", "load_manifest", "save_manifest"]

REQUIRED = ("id", "path", "seconds", "rate")
LABELS = ("speaker", "recording")
START = "start"
GENDER = "gender"


@dataclass(frozen=True, slots=True)
class Utterance:
    """One manifest row.

    Attributes:
        id: unique within the manifest; trials refer to ids.
        path: audio file, relative to the manifest's folder, or absolute.
        seconds: length of the audio.
        rate: sampling rate of the file in Hz; reading always gives 16 kHz.
        speaker: None if unknown; only evaluation, supervised training and diagnostics may read it.
        recording: the call, video or session; None if unknown; diagnostics only.
        start: start of the utterance in the file, in seconds; None if it is the whole file.
        gender: of the speaker, in the manifest's own words; None if unknown; evaluation only.
    """

    id: str
    path: str
    seconds: float
    rate: int = 16_000
    speaker: str | None = None
    recording: str | None = None
    start: float | None = None
    gender: str | None = None


class Manifest(Sequence[Utterance]):
    """An immutable sequence of utterances and the folder that their paths start from."""

    def __init__(self, utterances: Iterable[Utterance], root: Path) -> None:
        self._utterances = tuple(utterances)
        self.root = Path(root)

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Utterance | Manifest:
        if isinstance(index, slice):
            return Manifest(self._utterances[index], self.root)
        return self._utterances[index]

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def __repr__(self) -> str:
        return f"Manifest({len(self)} utterances, root={str(self.root)!r})"

    @cached_property
    def by_id(self) -> dict[str, Utterance]:
        """The utterance of each id."""
        return {utterance.id: utterance for utterance in self._utterances}

    @property
    def speakers(self) -> list[str]:
        """The distinct known speakers, sorted."""
        return sorted({u.speaker for u in self._utterances if u.speaker is not None})

    def path(self, utterance: Utterance) -> Path:
        """Return the path of the utterance's audio: below ``root``, or as written if absolute."""
        return self.root / utterance.path

    def select(self, predicate: Callable[[Utterance], bool]) -> Manifest:
        """Return the utterances for which ``predicate`` is true, in the same order."""
        return Manifest(filter(predicate, self._utterances), self.root)

    def without_labels(self) -> Manifest:
        """Return the same utterances without speakers and recordings, for self-supervised training."""
        bare = (Utterance(u.id, u.path, u.seconds, u.rate, start=u.start) for u in self._utterances)
        return Manifest(bare, self.root)


def load_manifest(file: str | Path) -> Manifest:
    """Read a manifest CSV; its paths start from the folder of the file.

    The columns ``id,path,seconds,rate`` are required. ``speaker,recording,gender`` (empty: unknown) and
    ``start`` (empty: the whole file) are optional. Others are ignored.

    Raises:
        CorpusError: there is no such file, a column is missing, or a line has a duplicate id, an empty id or
            path or a malformed number; the message gives the file and the line.
    """
    file = Path(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return Manifest(_rows(file, stream), file.parent)
    except FileNotFoundError as error:
        raise CorpusError(f"no manifest {file}; make one with `idemvox prepare`") from error
    except OSError as error:
        raise CorpusError(f"cannot read the manifest {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not UTF-8 text ({error}); save it as UTF-8 CSV") from error


def _rows(file: Path, stream: Iterable[str]) -> Iterator[Utterance]:
    """Yield the utterances of an open CSV file, checking each row."""
    reader = csv.reader(stream)
    try:
        header = [name.strip() for name in next(reader, [])]
        i_id, i_path, i_seconds, i_rate = _columns(file, header)
        i_speaker, i_recording, i_start, i_gender = (
            header.index(c) if c in header else None for c in (*LABELS, START, GENDER)
        )
        width = len(header)
        seen: dict[str, int] = {}
        rates: dict[str, int] = {}  # few distinct values, each checked once
        for row in reader:
            if not row:
                continue
            line = reader.line_num
            if len(row) != width:
                raise _error(file, line, f"{len(row)} fields where the header has {width}; quote commas")
            name, path = row[i_id], row[i_path]
            if not name or not path:
                raise _error(file, line, f"empty {'path' if name else 'id'}; fill it in or delete the row")
            if name in seen:
                raise _error(file, line, f"id {name!r} is also on line {seen[name]}; ids must be unique")
            seen[name] = line
            rate = rates.get(row[i_rate]) or rates.setdefault(row[i_rate], _rate(file, line, row[i_rate]))
            yield Utterance(
                name,
                name if path == name else path,  # one string object if they are equal
                _seconds(file, line, row[i_seconds]),
                rate,
                _label(row, i_speaker),
                _label(row, i_recording),
                _start(file, line, row[i_start]) if i_start is not None and row[i_start] else None,
                _label(row, i_gender),
            )
    except csv.Error as error:
        raise _error(file, reader.line_num, f"not CSV ({error}); repair or delete the line") from error


def _columns(file: Path, header: list[str]) -> list[int]:
    """Return the positions of the required columns."""
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        have = ", ".join(header) or "nothing"
        raise _error(
            file,
            1,
            f"no column {', '.join(map(repr, missing))} (found {have}); a manifest has "
            f"{', '.join(REQUIRED)}: make one from a folder or a table with `idemvox prepare`",
        )
    return [header.index(column) for column in REQUIRED]


def _label(row: list[str], index: int | None) -> str | None:
    """Return a speaker, recording or gender, one string object per distinct name; None if empty."""
    return sys.intern(row[index]) if index is not None and row[index] else None


def _seconds(file: Path, line: int, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (0 < seconds < math.inf):
        raise _error(file, line, f"seconds is {text!r}; write a number above 0, such as 4.25")
    return seconds


def _start(file: Path, line: int, text: str) -> float:
    try:
        start = float(text)
    except ValueError:
        start = math.nan
    if not (0 <= start < math.inf):
        raise _error(file, line, f"start is {text!r}; write seconds from the file's beginning, such as 12.5")
    return start


def _rate(file: Path, line: int, text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise _error(file, line, f"rate is {text!r}; write the file's samples per second, such as 16000")
    return int(text)


def _error(file: Path, line: int, what: str) -> CorpusError:
    return CorpusError(f"{file}, line {line}: {what}")


def save_manifest(manifest: Manifest, file: str | Path) -> None:
    """Write a manifest CSV, atomically, with paths relative to its folder.

    Seconds have microsecond precision, which resolves single samples. The columns ``speaker`` and
    ``recording`` are always written, empty if unknown; ``start`` only if an utterance is a part of its file,
    ``gender`` only if it is known of one.
    """
    file = Path(file)
    home = os.path.abspath(file.parent)
    root = os.path.abspath(manifest.root)
    with atomic_write(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        parts = any(u.start is not None for u in manifest)
        genders = any(u.gender is not None for u in manifest)
        more = [*([START] if parts else []), *([GENDER] if genders else [])]
        writer.writerow([*REQUIRED, *LABELS, *more])
        for u in manifest:
            path = u.path if root == home and not os.path.isabs(u.path) else _relative(home, root, u.path)
            start = [] if not parts else ["" if u.start is None else round(u.start, 6)]
            gender = [u.gender or ""] if genders else []
            row = [u.id, path, round(u.seconds, 6), u.rate, u.speaker or "", u.recording or ""]
            writer.writerow([*row, *start, *gender])


def _relative(home: str, root: str, path: str) -> str:
    """Return ``root/path`` relative to ``home``, with forward slashes; absolute if that is impossible."""
    full = os.path.join(root, path)
    if full.startswith(home + os.sep) and ".." not in path:
        return full[len(home) + 1 :].replace(os.sep, "/")
    folder, name = os.path.split(full)
    steps = _steps(folder, home)
    return f"{steps}/{name}" if steps else full.replace(os.sep, "/")


@lru_cache(maxsize=4096)
def _steps(folder: str, home: str) -> str | None:
    """Return the relative path from ``home`` to ``folder``, or None, as between two drives on Windows.

    Links are resolved first, because ``..`` goes up from the real folder.
    """
    try:
        return os.path.relpath(os.path.realpath(folder), os.path.realpath(home)).replace(os.sep, "/")
    except ValueError:
        return None
