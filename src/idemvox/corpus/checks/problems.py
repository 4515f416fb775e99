"""What makes an audio file unfit to learn from, and the report of a whole corpus that a person reads."""

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

LOUDEST = 8.0  # a float file that goes further was not scaled to [-1, 1]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a file, or with an utterance in it."""

    path: str  # as found or listed
    reason: str  # one of a few phrases, to be counted
    detail: str  # about this very file
    id: str = ""  # of the utterance, where there is a manifest
    serious: bool = True  # not fit to learn from; else worth a look


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a folder or a table."""

    manifest: Path
    taken: int
    hours: float  # of what was taken
    speakers: int | None  # how many distinct ones; None where no speaker is known
    left_out: tuple[Problem, ...]
    notes: tuple[str, ...]  # things worth knowing that are no reason to leave a file out
    problems: Path | None  # the CSV with every file left out; None where there is none
    unit: str = "file"  # what a row of the manifest is

    def table(self, examples: int = 3) -> RenderableType:
        """What was taken, and what was left out and why, to be printed by rich."""
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
        return Group(top, why, Text(f"every file left out: {self.problems}"))


def judge(path: str, fact: Facts, min_seconds: float) -> Problem | None:
    """Why a file is left out, or None for a good one."""
    reason, detail = _fault(path, fact, min_seconds)
    return Problem(printable(path), reason, detail) if reason else None


def _fault(path: str, fact: Facts, min_seconds: float) -> tuple[str, str]:
    """Reason and detail; two empty strings for a good file."""
    promised = fact.promised / fact.rate if fact.rate else 0.0
    if printable(path) != path:
        return "name is not text", "rename it: its name is not valid UTF-8"
    if fact.fault and promised:
        return "breaks off", f"{fact.fault}, after {fact.seconds:.1f} s or later, of {promised:.1f} s"
    if fact.frames and fact.seconds < promised - fact.slack:
        return "breaks off", f"{fact.seconds:.1f} s can be decoded of {promised:.1f} s"
    if fact.fault:
        return "cannot be read", fact.fault
    if not fact.frames:
        return "empty", "no samples"
    if math.isnan(fact.peak):
        return "samples are not numbers", "has NaN or infinite samples"
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
    """Problems counted by reason, each with a few examples."""
    why = Table(title=title, title_justify="left", title_style="bold")
    why.add_column("why")
    why.add_column(count, justify="right")
    why.add_column("for example", overflow="fold")
    for reason, few in by_reason(problems).items():
        shown = "\n".join(f"{p.path}: {p.detail}" if p.path else p.detail for p in few[:examples])
        why.add_row(Text(reason), f"{len(few):,}", Text(shown))
    return why


def worth_knowing(known: Mapping[str, Facts]) -> list[str]:
    """Notes on rates, channels, decoders and unmarked ends, from facts by path."""
    facts = known.values()
    rates = Counter(fact.rate for fact in facts)
    notes = rate_notes(rates, sum(fact.channels > 1 for fact in facts))
    notes += decoder_notes(Counter(decoded(path, fact) for path, fact in known.items()))
    if cancelled := sum(fact.cancelled for fact in facts):
        opposite = f"{counted(cancelled, 'file')} with channels that cancel each other"
        notes.append(f"{opposite}: the louder one is read, not their average")
    if unended := sum(not fact.ended for fact in facts):
        ogg = counted(unended, "Ogg file")
        notes.append(f"{ogg} without an end mark, recorded live or broken off: taken nonetheless")
    return notes


def rate_notes(rates: Counter[int], several: int) -> list[str]:
    """Notes on how many files have which rate, and how many have several channels."""
    notes: list[str] = []
    rates = Counter({rate: count for rate, count in rates.items() if rate != SAMPLE_RATE})
    if rates:
        each = ", ".join(f"{count:,} at {rate / 1000:g} kHz" for rate, count in sorted(rates.items()))
        notes.append(f"{counted(rates.total(), 'file')} not at 16 kHz ({each}): resampled when read")
    if several:
        notes.append(f"{counted(several, 'file')} with several channels: averaged when read")
    return notes


def decoded(path: str, fact: Facts) -> tuple[str, str]:
    """Which decoder read what kind of file: ``PyAV``, ``.webm``."""
    return fact.decoder, os.path.splitext(path)[1].lower() or "without suffix"


def decoder_notes(read: Counter[tuple[str, str]]) -> list[str]:
    """A note on how many files of which kind each decoder reads, in alphabetical order."""
    lines = []
    for decoder in sorted({decoder for decoder, _ in read}, key=str.lower):
        kinds = [f"{n:,} {kind}" for (by, kind), n in sorted(read.items()) if by == decoder]
        lines.append(f"{', '.join(kinds)} by {decoder}")
    return [f"read: {'; '.join(lines)}"] if lines else []


def counted(number: int, thing: str) -> str:
    """``1 file``, ``2,500 files``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def by_reason(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Problems by reason, the most frequent first."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.reason, []).append(problem)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def write_problems(file: Path, problems: Sequence[Problem]) -> Path | None:
    """Write the list of problems, or take an earlier one away where there are none."""
    if not problems:
        file.unlink(missing_ok=True)
        return None
    with atomic_write(file) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "reason", "detail"])
        writer.writerows((p.path, p.reason, p.detail) for p in problems)
    return file


def printable(path: str) -> str:
    """A path as text; bytes of a file name that are not UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


def duration(hours: float) -> str:
    """Hours, or minutes where it is less than two hours."""
    return f"{hours:,.1f} h" if hours >= 2 else f"{hours * 60:.1f} min"
