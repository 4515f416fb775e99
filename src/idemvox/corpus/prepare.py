"""Preparing a manifest from a folder of audio, a table, or any other list of candidates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from idemvox.audio.decoders import SUFFIXES
from idemvox.corpus.checks.problems import (
    Problem,
    Summary,
    by_reason,
    counted,
    judge,
    worth_knowing,
    write_problems,
)
from idemvox.corpus.checks.scan import Facts, Found, examine_all, find_audio
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.corpus.table import Candidate, listed
from idemvox.errors import CorpusError

__all__ = ["Listing", "Problem", "Summary", "prepare_folder", "prepare_listing", "prepare_table"]

OVERSHOOT = 0.5  # seconds that a listed part may end after its file, where it is then cut


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a corpus, before any is opened; every way to prepare a corpus starts with one.

    Attributes:
        candidates: candidates in the order of the manifest; several may be parts of one file. Silence and
            damage are judged for the whole file, too short a length for the part.
        root: folder that their paths start from.
        notes: notes for the summary, before those on the files themselves.
        closed: folders that could not be listed, and why.
        unit: name of a row in the summary.
        speech: whether the files are speech: then silence around it does not count towards the shortest
            length.
        cut: turns a good row into several, such as pieces of a long recording.
    """

    candidates: Sequence[Candidate]
    root: Path
    notes: Sequence[str] = ()
    closed: Sequence[tuple[str, str]] = ()
    unit: str = "file"
    speech: bool = True
    cut: Callable[[Utterance], Iterable[Utterance]] | None = None


def prepare_folder(
    folder: str | Path,
    out: str | Path,
    *,
    min_seconds: float = 2.0,
    speaker_from: str | None = None,
    recording_from: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check every audio file below ``folder`` and write a manifest of the good ones to ``out``.

    An utterance's id is its path below ``folder``. A file is left out if it cannot be decoded, ends before
    its header says, is empty, silent (peak below -60 dB) or shorter than ``min_seconds``. It is then listed
    in a CSV beside ``out``, ``train.problems.csv`` for ``train.csv``. Any sampling rate and number of
    channels is allowed. An interrupted scan resumes when it is started again with the same ``out``.

    Args:
        folder: folder of audio files, in any tree, recognised by their suffixes; hidden files are skipped,
            links followed. The summary counts the files that are ignored, by kind.
        out: the CSV file to write.
        min_seconds: length of the shortest utterance to take, without the silence around it; a training crop
            is 2 s.
        speaker_from: where a path below ``folder`` names the speaker, such as ``"{speaker}/{recording}/*"``.
            ``{speaker}`` and ``*`` match one or more characters except ``/``, ``**`` any characters. A
            placeholder that occurs several times is joined by ``/``. None: speakers are unknown.
        recording_from: the same for ``{recording}``. If sessions are numbered from 1 for every speaker, write
            ``"{recording}/{recording}/*"``, so that recordings of two speakers differ.
        workers: number of threads that decode; None for one per core.
        progress: show a progress bar.

    Raises:
        CorpusError: there is no such folder, it has no usable audio, or a pattern matches no file.
    """
    folder, out = existing_folder(folder), output_file(out)
    speaker_of = path_pattern("speaker", speaker_from)
    recording_of = path_pattern("recording", recording_from)
    found = find_audio(folder)
    if not found.files:
        raise CorpusError(_nothing_in(folder, found))
    candidates = [Candidate(file, file, speaker_of(file), recording_of(file)) for file in found.files]
    notes = _others(found)
    for kind, pattern in (("speaker", speaker_from), ("recording", recording_from)):
        unlabelled = [c.path for c in candidates if getattr(c, kind) is None]
        if pattern and len(unlabelled) == len(candidates):
            raise CorpusError(
                f"the {kind} pattern {pattern!r} matches no file; an example of a file is {unlabelled[0]!r}"
            )
        if pattern and unlabelled:
            share = f"{len(unlabelled):,} of {len(candidates):,} files"
            notes.append(f"{kind} unknown for {share}: outside {pattern!r}, e.g. {unlabelled[0]}")
    return prepare_listing(
        Listing(candidates, folder, notes, found.closed), out, min_seconds, workers, progress
    )


def prepare_table(
    csv_file: str | Path,
    out: str | Path,
    *,
    root: str | Path | None = None,
    where: Mapping[str, str] | None = None,
    min_seconds: float = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check every file that a CSV lists and write a manifest of the good ones to ``out``.

    Args:
        csv_file: a CSV with a header and the column ``path``; ``id`` (default: the path), ``speaker`` and
            ``recording`` are used if present. Lengths and rates are always measured.
        out: the CSV file to write.
        root: folder that the paths start from; None for the CSV's folder.
        where: take only rows with these values, such as ``{"split": "train"}``; commas separate alternative
            values of a column.
        min_seconds, workers, progress: as for :func:`prepare_folder`.

    Raises:
        CorpusError: the table is malformed (the message gives the line), a column or value is missing, or no
            file is usable.
    """
    csv_file, out = Path(csv_file), output_file(out)
    if csv_file.exists() and out.exists() and out.samefile(csv_file):
        raise CorpusError(f"{out} is the table itself; choose another output")
    candidates, repeats = listed(csv_file, where or {})
    notes = [f"{counted(repeats, 'repeated row')}: taken once"] if repeats else []
    home = csv_file.parent if root is None else Path(root)
    return prepare_listing(Listing(candidates, home, notes), out, min_seconds, workers, progress)


def prepare_listing(
    listing: Listing,
    out: str | Path,
    min_seconds: float,
    workers: int | None = None,
    progress: bool = True,
    journal: Path | None = None,
) -> Summary:
    """Check each file of a listing once; write the manifest and the list of problems.

    The same listing and files give the same bytes in ``out``.

    Args:
        listing: what to check.
        out, min_seconds, workers, progress: as for :func:`prepare_folder`.
        journal: file with the results so far, for resuming. None: a file beside ``out`` that is deleted at
            the end; a given file is kept, for the caller's next manifest.

    Raises:
        CorpusError: no candidate is usable.
    """
    out, root = output_file(out), listing.root
    partial = out.with_name(out.name + ".partial")
    facts = _facts(listing.candidates, root, journal or partial, workers, progress)
    if not listing.speech:
        facts = {path: replace(fact, sound=math.inf) for path, fact in facts.items()}
    good: list[Utterance] = []
    left_out = {name: Problem(name, "folder cannot be opened", detail) for name, detail in listing.closed}
    for candidate in listing.candidates:
        row = _row(candidate, facts[candidate.path], min_seconds)
        if isinstance(row, Problem):
            left_out.setdefault(row.path, row)
        else:
            good.extend([row] if listing.cut is None else listing.cut(row))
    problems = write_problems(out.with_suffix(".problems.csv"), list(left_out.values()))
    if not good:
        counts = ", ".join(f"{len(p):,} {reason}" for reason, p in by_reason(list(left_out.values())).items())
        first = next(iter(left_out.values()))
        example = f"{first.path}: {first.detail}"
        raise CorpusError(f"no usable audio in {root}: {counts}; e.g. {example}; all are in {problems}")
    save_manifest(Manifest(good, root), out)
    if journal is None:
        partial.unlink(missing_ok=True)
    speakers = len({u.speaker for u in good if u.speaker is not None})
    return Summary(
        manifest=out,
        taken=len(good),
        hours=sum(u.seconds for u in good) / 3600,
        speakers=speakers or None,
        left_out=tuple(left_out.values()),
        notes=(*listing.notes, *worth_knowing({path: f for path, f in facts.items() if not f.fault})),
        problems=problems,
        unit=listing.unit,
    )


def _facts(
    candidates: Sequence[Candidate], root: Path, journal: Path, workers: int | None, progress: bool
) -> dict[str, Facts]:
    paths = list(dict.fromkeys(c.path for c in candidates))
    return dict(zip(paths, examine_all([root / p for p in paths], journal, workers, progress), strict=True))


def _row(c: Candidate, fact: Facts, min_seconds: float) -> Utterance | Problem:
    """Return a candidate's row, or a problem, which names the file or, for a bad part, the id."""
    whole = c.start == 0 and c.end is None
    problem = judge(c.path, fact, min_seconds if whole else 0.0)
    if problem:
        return problem
    end = fact.seconds if c.end is None else min(c.end, fact.seconds)
    if c.end is not None and c.end > fact.seconds + OVERSHOOT:
        return Problem(c.id, "ends after its file", f"{c.end:.2f} s of {fact.seconds:.2f} s in {c.path}")
    if end - c.start < min_seconds:
        return Problem(c.id, f"shorter than {min_seconds:g} s", f"{end - c.start:.2f} s of {c.path}")
    start = None if whole else c.start
    return Utterance(c.id, c.path, end - c.start, fact.rate, c.speaker, c.recording, start)


def path_pattern(kind: str, pattern: str | None) -> Callable[[str], str | None]:
    """Return a function from a path to its label by a pattern ``"{speaker}/*/*"``; None if it does not match.

    >>> path_pattern("speaker", "{speaker}/*/*")("id10001/1zcIwhmdeo4/00001.wav")
    'id10001'
    """
    if pattern is None:
        return lambda path: None
    if f"{{{kind}}}" not in pattern:
        raise CorpusError(f"the {kind} pattern {pattern!r} has no {{{kind}}}; write e.g. '{{{kind}}}/*'")
    wild = {
        "**": ".*?",
        "*": "[^/]+?",
        "{speaker}": "[^/]+?",
        "{recording}": "[^/]+?",
        f"{{{kind}}}": "([^/]+?)",
    }
    pieces = re.split(r"(\*\*|\*|\{speaker\}|\{recording\})", pattern)
    compiled = re.compile("".join(wild.get(piece) or re.escape(piece) for piece in pieces), re.DOTALL)

    def label(path: str) -> str | None:
        match = compiled.fullmatch(path)
        return "/".join(match.groups()) if match else None

    return label


def existing_folder(folder: str | Path) -> Path:
    """Return ``folder`` as a path; raise an error if it is not a folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}" if not folder.exists() else f"{folder} is not a folder")
    return folder


def output_file(out: str | Path) -> Path:
    """Return the manifest to write as a path; raise an error if it is a folder."""
    out = Path(out)
    if out.is_dir():
        raise CorpusError(f"{out} is a folder; give the manifest file to write, such as {out / 'train.csv'}")
    return out


def _nothing_in(folder: Path, found: Found) -> str:
    """Return the message for a folder without audio: what was looked for, and what was found."""
    closed = f"; cannot open {found.closed[0][0]} ({found.closed[0][1]})" if found.closed else ""
    kinds = _kinds(found, 3) or "no files"
    return f"no audio in {folder}: looked for {', '.join(SUFFIXES)}; found {kinds}{closed}"


def _others(found: Found) -> list[str]:
    """Return a note on the files that are not audio."""
    count = found.others.total()
    return [f"{counted(count, 'file')} ignored: {_kinds(found, 8)}"] if count else []


def _kinds(found: Found, most: int) -> str:
    """Return the counts of files by kind: ``2 .txt, 1 without suffix and 1 more kind``."""
    kinds = sorted(found.others.items(), key=lambda item: (-item[1], item[0] == "", item[0]))
    named = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in kinds[:most])
    more = len(kinds) - most
    return f"{named} and {counted(more, 'more kind')}" if more > 0 else named
