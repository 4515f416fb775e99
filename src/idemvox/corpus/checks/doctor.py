"""The doctor: find bad and unusual utterances in a corpus, and compare its counts with the official ones."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from idemvox.audio.decoders import SUFFIXES
from idemvox.audio.sound import CLIPPED, TELEPHONE, Sound
from idemvox.corpus.checks.listen import WHOLE, Heard, Window, listen, reviver
from idemvox.corpus.checks.official import Official, count, match, official, recognise
from idemvox.corpus.checks.problems import (
    Problem,
    counted,
    decoded,
    decoder_notes,
    duration,
    judge,
    printable,
    rate_notes,
    reasons_table,
)
from idemvox.corpus.checks.scan import Facts, examined, find_audio
from idemvox.corpus.manifest import Utterance, load_manifest
from idemvox.errors import CorpusError
from idemvox.files import atomic_write

__all__ = ["Diagnosis", "examine_corpus"]

VERSION = 2  # of the journal; a journal of another version is ignored

LISTED = 0.02  # seconds by which a listed length may be wrong


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of examining a corpus.

    Attributes:
        utterances: number of utterances.
        files: number of files.
        hours: hours that can be decoded.
        speakers: number of speakers; None if none is known.
        problems: problems in the order of the list; serious ones are errors, others warnings.
        corpus: the corpus whose official counts were compared.
        counts: the actual counts.
        notes: remarks on rates, channels and decoders.
        listing: the CSV of all problems.
    """

    utterances: int
    files: int
    hours: float
    speakers: int | None
    problems: tuple[Problem, ...]
    corpus: Official | None
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    listing: Path

    def failed(self, strict: bool = False) -> bool:
        """Return whether there is an error or, with ``strict``, any problem."""
        return any(problem.serious or strict for problem in self.problems)

    def table(self, examples: int = 3) -> RenderableType:
        """Return the findings as a table for rich."""
        errors = [problem for problem in self.problems if problem.serious]
        warnings = [problem for problem in self.problems if not problem.serious]
        top = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        size = counted(self.utterances, "utterance")
        if self.files != self.utterances:
            size += f" in {counted(self.files, 'file')}"
        top.add_row("examined", f"{size}, {duration(self.hours)}")
        if self.speakers is not None:
            top.add_row("speakers", f"{self.speakers:,}")
        top.add_row("errors", f"{len(errors):,}" if errors else "none")
        top.add_row("warnings", f"{len(warnings):,}" if warnings else "none")
        for note in self.notes:
            top.add_row("note", Text(note))
        parts: list[RenderableType] = [top]
        if self.corpus:
            parts.append(_counts_table(self.corpus, self.counts))
        for title, problems in (("Errors", errors), ("Warnings", warnings)):
            if problems:
                parts.append(reasons_table(title, problems, examples, "cases"))
        if self.problems:
            parts.append(Text(f"all problems: {self.listing}"))
        return Group(*parts)


def examine_corpus(
    source: str | Path,
    *,
    corpus: str | None = None,
    out: str | Path | None = None,
    min_seconds: float | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Decode all audio of a manifest or below a folder once, and list all problems.

    Errors make an utterance unusable for training: its file is missing, unreadable or truncated; it is empty,
    silent, shorter than ``min_seconds`` without the silence around it, or shorter than listed; its samples
    are NaN, infinite or not scaled; or the same audio has two speakers. Counts that differ from those of
    ``corpus`` are errors too.

    Warnings: clipped (0.05 % of the samples in flat tops), nothing above 4 kHz (8-kHz audio in a file of a
        higher
    rate: the spectrum falls by 32 dB or more), channels that cancel each other, duplicate audio, longer than
        listed
    or of another rate, no end mark. :class:`~idemvox.audio.sound.Listener` defines the measurements.

    A bad file does not stop it. An interrupted run resumes with the same ``out``.

    Audio is duplicate if its 16-bit samples, mixed to one channel, are equal, whatever the file's format,
    name or header; not if one is a part of the other, louder, or lossily coded.

    Args:
        source: a manifest CSV, or a folder of audio.
        corpus: a name in :func:`~idemvox.corpus.checks.official.corpora`. None recognises most corpora by
            their names; different counts are then only a warning, because it may be a part on purpose.
        out: the CSV of all problems (path, id, problem, severity, detail), always written; None for
            ``train.doctor.csv`` beside ``train.csv``, or ``doctor.csv`` in the folder.
        min_seconds: length of the shortest good utterance; None for 2 s, a training crop, and no limit for
            noises and rooms.
        workers: number of threads that decode; None for one per core.
        progress: show a progress bar.

    Raises:
        CorpusError: there is no such source or no audio in it, the corpus is unknown, or ``out`` cannot be
            written.
    """
    source = Path(source)
    asked = official(corpus) if corpus else None
    out = _output(source, out)
    rows, root, closed = _rows(source)
    compared = asked or recognise(rows)
    files: dict[str, list[int]] = {}  # path -> the rows of its utterances
    for index, row in enumerate(rows):
        files.setdefault(os.fspath(Path(root, row.path)), []).append(index)
    parts = any(row.start is not None for row in rows)
    windows = {
        path: tuple((rows[i].start or 0.0, rows[i].seconds) for i in indices)
        for path, indices in files.items()
        if parts or len(indices) > 1
    }
    findings = _Findings(rows, compared, min_seconds)
    journal = out.with_name(f"{out.name}.heard-{VERSION}.partial")
    paths = list(files)
    for index, heard in examined(
        paths,
        journal,
        workers,
        progress,
        look=lambda path, stop: listen(path, windows.get(os.fspath(path), (WHOLE,)), stop),
        revive=reviver(windows),
    ):
        findings.add(paths[index], files[paths[index]], heard)
    problems = [*closed, *findings.problems()]
    counts: dict[str, int] = {}
    if compared:
        counts = count(compared, findings.decodable())
        problems += _miscounts(compared, counts, serious=asked is not None)
    _write(out, problems)
    journal.unlink(missing_ok=True)
    return Diagnosis(
        utterances=len(rows),
        files=len(files),
        hours=findings.seconds / 3600,
        speakers=len({row.speaker for row in rows if row.speaker is not None}) or None,
        problems=tuple(problems),
        corpus=compared,
        counts=counts,
        notes=(*rate_notes(findings.rates, findings.several), *decoder_notes(findings.decoded)),
        listing=out,
    )


def _output(source: Path, out: str | Path | None) -> Path:
    if not source.exists():
        raise CorpusError(f"no manifest or folder {source}")
    if out is None:
        return source / "doctor.csv" if source.is_dir() else source.with_suffix(".doctor.csv")
    out = Path(out)
    if out.is_dir():
        raise CorpusError(f"{out} is a folder; give the file to write, such as {out / 'problems.csv'}")
    if out.exists() and out.samefile(source):
        raise CorpusError(f"{out} is the manifest itself; choose another output")
    return out


def _rows(source: Path) -> tuple[Sequence[Utterance], Path, list[Problem]]:
    """Return the utterances, the folder that paths start from, and folders that cannot be opened."""
    if not source.is_dir():
        manifest = load_manifest(source)
        if not len(manifest):
            raise CorpusError(f"{source} has no rows")
        return manifest, manifest.root, []
    found = find_audio(source)
    closed = [Problem(printable(name), "folder cannot be opened", why) for name, why in found.closed]
    if not found.files:
        why = f"; cannot open {closed[0].path} ({closed[0].detail})" if closed else ""
        raise CorpusError(f"no audio in {source}: looked for {', '.join(SUFFIXES)}{why}")
    return [Utterance(file, file, math.inf, rate=0) for file in found.files], source, closed


class _Findings:
    """Collects problems, file by file in any order; it keeps nine bytes of a good utterance."""

    def __init__(self, rows: Sequence[Utterance], corpus: Official | None, min_seconds: float | None) -> None:
        self.rates: Counter[int] = Counter()
        self.decoded: Counter[tuple[str, str]] = Counter()  # (decoder, kind of file) -> number of files
        self.several = 0  # files with several channels
        self.seconds = 0.0
        self._rows, self._corpus = rows, corpus
        self._speech = corpus is None or corpus.speech
        self._min_seconds = min_seconds if min_seconds is not None else 2.0 if self._speech else 0.0
        self._found: list[tuple[int, Problem]] = []
        self._digests = np.zeros(len(rows), dtype=np.uint64)  # 0: do not compare
        self._decoded_rows = np.zeros(len(rows), dtype=bool)

    def add(self, path: str, indices: Sequence[int], heard: Heard) -> None:
        """Record the measurements of a file that holds these rows."""
        if not heard.fault:
            self.rates[heard.rate] += 1
            self.decoded[decoded(path, heard)] += 1
            self.several += heard.channels > 1
        for index, window, sound in zip(indices, heard.windows, heard.sounds, strict=True):
            problems = list(self._check(path, self._rows[index], heard, window, sound))
            self._found += ((index, problem) for problem in problems)
            self._decoded_rows[index] = sound.frames > 0
            self.seconds += sound.frames / heard.rate if heard.rate else 0.0
            if not any(problem.serious for problem in problems):
                self._digests[index] = sound.digest

    def decodable(self) -> Iterator[Utterance]:
        """Return the utterances of which at least a part can be decoded."""
        return (row for row, decoded in zip(self._rows, self._decoded_rows, strict=True) if decoded)

    def problems(self) -> Iterator[Problem]:
        """Return all problems, in the order of the rows."""
        found = [*self._found, *self._repeats()]
        return (problem for _, problem in sorted(found, key=lambda item: item[0]))

    def _check(
        self, path: str, row: Utterance, heard: Heard, window: Window, sound: Sound
    ) -> Iterator[Problem]:
        """Yield the problems of one utterance: one error, or any number of warnings."""
        judged = heard if self._speech else replace(heard, sound=math.inf)  # noises may contain silence
        error = _unfit(row, judged, window, sound, self._min_seconds)
        if error and heard.fault and not os.path.exists(path):
            error = replace(error, reason="missing", detail="no such file")
        if error:
            yield _of(row, error.reason, error.detail, serious=True)
            return
        listed, actual = row.seconds, sound.frames / heard.rate
        if window == WHOLE and listed < actual - max(LISTED, heard.slack):
            yield _of(row, "longer than listed", f"{actual:.2f} s, not {listed:.2f} s")
        if row.rate and row.rate != heard.rate:
            yield _of(row, "rate differs from the listed one", f"{heard.rate} Hz, not {row.rate} Hz")
        if heard.cancelled:
            what = "their average is 20 dB or more below the louder one, which is read instead"
            yield _of(row, "channels cancel each other", what)
        if not heard.ended:
            yield _of(row, "no end mark", "an Ogg stream that was recorded live or truncated")
        if sound.clipped >= CLIPPED:
            yield _of(row, "clipped", f"{sound.clipped:.2%} of the samples in flat tops")
        if self._speech and sound.above < TELEPHONE:
            what = f"{-sound.above:.0f} dB lower at 4.4 kHz than at 3.4 kHz: 8-kHz audio"
            yield _of(row, "nothing above 4 kHz", f"{what} in a file of {heard.rate / 1000:g} kHz")

    def _repeats(self) -> Iterator[tuple[int, Problem]]:
        """Yield a problem for each utterance with the same audio as an earlier one."""
        order = np.argsort(self._digests, kind="stable")
        digests = self._digests[order]
        starts = np.flatnonzero(np.r_[True, digests[1:] != digests[:-1]])
        for start, end in zip(starts, np.r_[starts[1:], len(digests)], strict=True):
            if end - start == 1 or not digests[start]:
                continue
            first, *others = (int(index) for index in order[start:end])
            mine = self._speaker(self._rows[first])
            for other in others:
                row = self._rows[other]
                speaker = self._speaker(row)
                if speaker and mine and speaker != mine:
                    detail = f"speaker {speaker}, but {mine} in {self._rows[first].id}"
                    yield other, _of(row, "same audio under two speakers", detail, serious=True)
                else:
                    yield other, _of(row, "duplicate audio", f"same as {self._rows[first].id}")

    def _speaker(self, row: Utterance) -> str | None:
        named = match(self._corpus, row) if self._corpus and not row.speaker else None
        return row.speaker or (named.groupdict().get("speaker") if named else None)


def _of(row: Utterance, reason: str, detail: str, serious: bool = False) -> Problem:
    return Problem(printable(row.path), reason, printable(detail), printable(row.id), serious)


def _unfit(row: Utterance, heard: Heard, window: Window, sound: Sound, min_seconds: float) -> Problem | None:
    """Return why an utterance is unusable; None for a good one."""
    actual = sound.frames / heard.rate if heard.rate else 0.0
    short = row.seconds < math.inf and actual < row.seconds - max(LISTED, heard.slack)
    if window == WHOLE:
        facts: Facts = heard
    elif short or not heard.frames:
        facts = replace(heard, peak=1.0)  # so that only truncation is judged
    else:
        facts = Facts(sound.frames, heard.rate, heard.channels, sound.peak, sound.frames)
    problem = judge(row.path, facts, 0.0 if short else min_seconds)
    if problem is None and short:
        return Problem(row.path, "shorter than listed", f"{actual:.2f} s, not {row.seconds:.2f} s")
    return problem


def _miscounts(corpus: Official, counts: Mapping[str, int], serious: bool) -> Iterator[Problem]:
    for what, expected in corpus.counts.items():
        if counts[what] != expected:
            detail = f"{corpus.name} has {expected:,} {what}, found {counts[what]:,}"
            yield Problem("", "count differs from the official one", detail, serious=serious)


def _counts_table(corpus: Official, counts: Mapping[str, int]) -> Table:
    table = Table(title=corpus.name, title_justify="left", title_style="bold")
    for column in ("", "official", "found", "missing"):
        table.add_column(column, justify="right" if column else "left")
    for what, expected in corpus.counts.items():
        missing = expected - counts[what]
        difference = f"{missing:,}" if missing >= 0 else f"{-missing:,} too many"
        table.add_row(what, f"{expected:,}", f"{counts[what]:,}", difference)
    return table


def _write(file: Path, problems: Sequence[Problem]) -> None:
    with atomic_write(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "id", "problem", "severity", "detail"])
        writer.writerows((p.path, p.id, p.reason, _severity(p), p.detail) for p in problems)


def _severity(problem: Problem) -> str:
    return "error" if problem.serious else "warning"
