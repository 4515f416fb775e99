"""Problems that make an audio file unusable for training, and summaries of a corpus."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from idemvox.audio.read import SAMPLE_RATE
from idemvox.audio.sound import LOUDEST
from idemvox.corpus.checks.scan import SILENCE, Facts
from idemvox.files import atomic_write

__all__ = [
    "Problem",
    "Summary",
    "by_reason",
    "counted",
    "decoded",
    "decoder_notes",
    "duration",
    "judge",
    "printable",
    "rate_notes",
    "reasons_table",
    "worth_knowing",
    "write_problems",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file, or of an utterance in it.

    Attributes:
        path: path of the file, as found or listed.
        reason: one of a few phrases, for counting.
        detail: details about this file.
        id: id of the utterance, if there is a manifest.
        serious: True for an error (unusable for training), False for a warning.
    """

    path: str
    reason: str
    detail: str
    id: str = ""
    serious: bool = True


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of preparing a manifest.

    Attributes:
        manifest: the file that was written.
        taken: number of rows in it.
        hours: their total length.
        speakers: number of distinct speakers; None if none is known.
        left_out: the files that were left out.
        notes: remarks that are no reason to leave a file out.
        problems: the CSV of all files left out; None if there are none.
        unit: what a row of the manifest is.
    """

    manifest: Path
    taken: int
    hours: float
    speakers: int | None
    left_out: tuple[Problem, ...]
    notes: tuple[str, ...]
    problems: Path | None
    unit: str = "file"

    def table(self, examples: int = 3) -> RenderableType:
        """Return a table for rich of what was taken, and of what was left out and why."""
        top = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        top.add_row("taken", f"{counted(self.taken, self.unit)}, {duration(self.hours)}")
        if self.speakers is not None:
            top.add_row("speakers", f"{self.speakers:,}")
        top.add_row("left out", counted(len(self.left_out), "file") if self.left_out else "none")
        for note in self.notes:
            top.add_row("note", Text(note))
        top.add_row("manifest", Text(str(self.manifest)))
        if not self.left_out:
            return top
        why = reasons_table("Left out", self.left_out, examples)
        return Group(top, why, Text(f"all files left out: {self.problems}"))


def judge(path: str, fact: Facts, min_seconds: float) -> Problem | None:
    """Return why a file is left out, or None for a good one."""
    reason, detail = _fault(path, fact, min_seconds)
    return Problem(printable(path), reason, detail) if reason else None


def _fault(path: str, fact: Facts, min_seconds: float) -> tuple[str, str]:
    """Return reason and detail; two empty strings for a good file."""
    promised = fact.promised / fact.rate if fact.rate else 0.0
    if printable(path) != path:
        return "name is not UTF-8", "rename the file"
    if fact.fault and promised:
        return "truncated", f"{fact.fault}, after {fact.seconds:.1f} s or later, of {promised:.1f} s"
    if fact.frames and fact.seconds < promised - fact.slack:
        return "truncated", f"only {fact.seconds:.1f} s of {promised:.1f} s can be decoded"
    if fact.fault:
        return "cannot be read", fact.fault
    if not fact.frames:
        return "empty", "no samples"
    if math.isnan(fact.peak):
        return "NaN or infinite samples", "write the file again with finite samples"
    if fact.peak < SILENCE:
        return "silent", f"peak {fact.peak:.1e} of full scale, below -60 dB"
    if fact.peak > LOUDEST:
        return "not scaled to [-1, 1]", f"peak {fact.peak:.0f}; divide the samples (16-bit ones by 32768)"
    if fact.seconds < min_seconds:
        return f"shorter than {min_seconds:g} s", f"{fact.seconds:.2f} s"
    if fact.sound < min_seconds:
        detail = f"{fact.sound:.2f} s from the first sound to the last, of {fact.seconds:.2f} s"
        return f"shorter than {min_seconds:g} s without the silence around it", detail
    return "", ""


def reasons_table(title: str, problems: Sequence[Problem], examples: int, count: str = "files") -> Table:
    """Return a table of problems by reason, with counts and a few examples."""
    why = Table(title=title, title_justify="left", title_style="bold")
    why.add_column("why")
    why.add_column(count, justify="right")
    why.add_column("for example", overflow="fold")
    for reason, group in by_reason(problems).items():
        shown = "\n".join(f"{p.path}: {p.detail}" if p.path else p.detail for p in group[:examples])
        why.add_row(Text(reason), f"{len(group):,}", Text(shown))
    return why


def worth_knowing(known: Mapping[str, Facts]) -> list[str]:
    """Return notes on rates, channels, decoders and missing end marks, from facts by path."""
    facts = known.values()
    rates = Counter(fact.rate for fact in facts)
    notes = rate_notes(rates, sum(fact.channels > 1 for fact in facts))
    notes += decoder_notes(Counter(decoded(path, fact) for path, fact in known.items()))
    if cancelled := sum(fact.cancelled for fact in facts):
        opposite = f"{counted(cancelled, 'file')} with channels that cancel each other"
        notes.append(f"{opposite}: the louder one is read, not their average")
    if unended := sum(not fact.ended for fact in facts):
        ogg = counted(unended, "Ogg file")
        notes.append(f"{ogg} without an end mark (recorded live, or truncated): taken")
    return notes


def rate_notes(rates: Counter[int], several: int) -> list[str]:
    """Return notes on the number of files at each rate, and with several channels."""
    notes: list[str] = []
    rates = Counter({rate: count for rate, count in rates.items() if rate != SAMPLE_RATE})
    if rates:
        counts = ", ".join(f"{count:,} at {rate / 1000:g} kHz" for rate, count in sorted(rates.items()))
        notes.append(f"{counted(rates.total(), 'file')} not at 16 kHz ({counts}): resampled when read")
    if several:
        notes.append(f"{counted(several, 'file')} with several channels: averaged when read")
    return notes


def decoded(path: str, fact: Facts) -> tuple[str, str]:
    """Return the decoder and the kind of a file: ``PyAV``, ``.webm``."""
    return fact.decoder, os.path.splitext(path)[1].lower() or "without suffix"


def decoder_notes(read: Counter[tuple[str, str]]) -> list[str]:
    """Return a note on the number of files of each kind that each decoder reads."""
    lines = []
    for decoder in sorted({decoder for decoder, _ in read}, key=str.lower):
        kinds = [f"{n:,} {kind}" for (by, kind), n in sorted(read.items()) if by == decoder]
        lines.append(f"{', '.join(kinds)} by {decoder}")
    return [f"read: {'; '.join(lines)}"] if lines else []


def counted(number: int, thing: str) -> str:
    """Return a count with its noun: ``1 file``, ``2,500 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def by_reason(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Return problems by reason, the most frequent first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(problem)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def write_problems(file: Path, problems: Sequence[Problem]) -> Path | None:
    """Write the list of problems; if there are none, delete an earlier list."""
    if not problems:
        file.unlink(missing_ok=True)
        return None
    with atomic_write(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "reason", "detail"])
        writer.writerows((p.path, p.reason, p.detail) for p in problems)
    return file


def printable(path: str) -> str:
    """Return a path as text; bytes of a file name that are not UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


def duration(hours: float) -> str:
    """Return a duration in hours, or in minutes below two hours."""
    return f"{hours:,.1f} h" if hours >= 2 else f"{hours * 60:.1f} min"
