"""Helpers of the importers: finding a corpus in a folder, reading its lists, rewriting its trial keys."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from idemvox.corpus.checks.problems import Summary, counted
from idemvox.errors import CorpusError
from idemvox.files import atomic_write

__all__ = ["TrialFile", "joined", "places", "read_columns", "with_trials", "write_trials"]

LABELS = {"tgt": "1", "imp": "0"}


@dataclass(frozen=True, slots=True)
class TrialFile:
    """A written trial list, ``label id id`` with the ids of a manifest."""

    path: Path
    trials: int
    ids: frozenset[str]


def joined(place: str, name: str) -> str:
    """Return ``place/name``, or ``name`` if the place is the folder itself."""
    return f"{place}/{name}" if place else name


def places(folder: Path, holds: str, depth: int = 3) -> list[str]:
    """Return folders, at most ``depth`` levels down, with an entry that the regular expression matches.

    They are sorted by depth and name, and relative to ``folder`` (itself: ``""``). Folders inside a result
    are not searched, so a corpus of a million files is found by opening a few folders.
    """
    matches: list[str] = []
    level = [""]
    for _ in range(depth + 1):
        below: list[str] = []
        for place in level:
            try:
                entries = sorted(os.scandir(folder / place), key=lambda entry: entry.name)
            except OSError as error:
                raise CorpusError(f"cannot open the folder {folder / place}: {error.strerror}") from error
            if any(re.fullmatch(holds, entry.name) for entry in entries):
                matches.append(place)
            else:
                below += [joined(place, e.name) for e in entries if e.is_dir() and e.name[0] != "."]
        level = below
    return matches


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn failures to read a list into errors that name it."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"cannot read {file}: {error.strerror}; the corpus should have this file"
        ) from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not UTF-8 text; check that it is a list") from error


def read_columns(file: Path, wanted: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and fields of each line that is not blank.

    Args:
        file: text file with fields separated by white space.
        wanted: names of the columns, such as ``"model file"``; each line must have at least as many fields.

    Raises:
        CorpusError: the file cannot be read, or a line has too few fields.
    """
    least = len(wanted.split())
    with reading(file), file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if fields and len(fields) < least:
                raise CorpusError(f"{file}, line {number}: expected '{wanted}', got {line.strip()[:120]!r}")
            if fields:
                yield number, fields


def read_models(file: Path) -> dict[str, str]:
    """Return the file of each enrolment model, from lines ``model file``."""
    models: dict[str, str] = {}
    for number, (model, name, *_) in read_columns(file, "model file"):
        if models.setdefault(model, name) != name:
            raise CorpusError(
                f"{file}, line {number}: a second file of model {model}; only one file per model is supported"
            )
    return models


def write_trials(
    keys: Path, out: Path, models: Mapping[str, str], files: Collection[str], place: str = ""
) -> TrialFile:
    """Rewrite a key file, lines ``model file tgt|imp``, as ``label id id``, atomically.

    It streams: 4 million trials take seconds, and memory only for their ids.

    Args:
        keys: the key file.
        out: the list to write.
        models: file of each enrolment model.
        files: all files, named as in the key file.
        place: folder that is put before a file to give its id.

    Raises:
        CorpusError: a line is not a trial, or its model or file is unknown.
    """
    ids = {name: joined(place, name) for name in files}
    enrolled = {model: ids[name] for model, name in models.items() if name in ids}
    used: set[str] = set()
    count = 0
    with reading(keys), keys.open(encoding="utf-8-sig") as lines, atomic_write(out) as file:
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields:
                continue
            try:
                model, name, label = fields[:3]
                first, second = enrolled[model], ids[name]
                file.write(f"{LABELS[label]} {first} {second}\n")
            except (KeyError, ValueError) as error:
                what = "expected 'model file tgt|imp', with a model and a file in the corpus's lists"
                raise CorpusError(f"{keys}, line {number}: {what}, got {line.strip()[:200]!r}") from error
            used.add(first)
            used.add(second)
            count += 1
    return TrialFile(out, count, frozenset(used))


def with_trials(summary: Summary, lists: Collection[TrialFile], place: str = "") -> Summary:
    """Add notes to a summary on the trial lists, and on lists that name files that were left out.

    Args:
        summary: summary of the manifest that belongs to the lists.
        lists: the lists.
        place: folder that is put before an id to give its path in the summary.
    """
    left_out = {problem.path for problem in summary.left_out}
    notes = []
    for trials in lists:
        missing = sum(joined(place, name) in left_out for name in trials.ids)
        lost = f"; it names {counted(missing, 'file')} left out, so it cannot be scored" if missing else ""
        notes.append(f"{counted(trials.trials, 'trial')}: {trials.path}{lost}")
    return replace(summary, notes=(*notes, *summary.notes))
