"""A folder of audio, a table or any other list of candidates in; a checked manifest out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
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

__all__ = ["Problem", "Summary", "prepare_candidates", "prepare_folder", "prepare_table"]

OVERSHOOT = 0.5  # seconds by which a listed part may end after its file; it is then cut there


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
    """Check every audio file below ``folder`` and write the manifest ``out`` of the good ones.

    An utterance's id is its path below ``folder``. A file is left out if it cannot be decoded, ends before
    its header says, is empty, silent (peak below -60 dB) or shorter than ``min_seconds``; it is then listed
    in a CSV beside ``out``, ``train.problems.csv`` for ``train.csv``. Any sampling rate and any number of
    channels will do. An interrupted scan goes on where it was when it is started again with the same ``out``.

    Args:
        folder: any tree of audio files, known by their suffixes; hidden files are skipped, links followed.
            The summary counts what is not looked at, by kind.
        out: the CSV file to write.
        min_seconds: shortest utterance to take, without the silence around it; a training crop is 2 s.
        speaker_from: where a path below ``folder`` names the speaker, such as ``"{speaker}/{recording}/*"``.
            ``{speaker}`` and ``*`` stand for one or more characters but ``/``, ``**`` for any characters.
            A placeholder written several times is joined by ``/``. None: speakers are not known.
        recording_from: the same for ``{recording}``; where sessions are numbered anew for every speaker
            write ``"{recording}/{recording}/*"``, so that recordings of two speakers differ.
        workers: threads that decode; None takes one per core.
        progress: draw a progress bar.

    Raises:
        CorpusError: no such folder, no audio in it, none of it good, or a pattern that fits no file.
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
            raise CorpusError(f"the {kind} pattern {pattern!r} fits no file; one is {unlabelled[0]!r}")
        if pattern and unlabelled:
            share = f"{len(unlabelled):,} of {len(candidates):,} files"
            notes.append(f"{kind} unknown for {share}: outside {pattern!r}, e.g. {unlabelled[0]}")
    return prepare_candidates(
        candidates,
        folder,
        out,
        min_seconds=min_seconds,
        workers=workers,
        progress=progress,
        notes=notes,
        closed=found.closed,
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
    """Check every file that a CSV lists and write the manifest ``out`` of the good ones.

    Args:
        csv_file: has a header and a column ``path``; ``id`` (else the path is the id), ``speaker`` and
            ``recording`` are used where they are there. Lengths and rates are measured, not believed.
        out: the CSV file to write.
        root: folder that the paths start from; None is the CSV's own.
        where: take only rows with these values, such as ``{"split": "train"}``; commas separate several
            values for a column.
        min_seconds, workers, progress: as for :func:`prepare_folder`.

    Raises:
        CorpusError: a bad table (names the line), a column or value that is not there, or no good file.
    """
    csv_file, out = Path(csv_file), output_file(out)
    if csv_file.exists() and out.exists() and out.samefile(csv_file):
        raise CorpusError(f"{out} is the table itself; choose another output")
    candidates, repeats = listed(csv_file, where or {})
    notes = [f"{counted(repeats, 'repeated row')}: taken once"] if repeats else []
    home = csv_file.parent if root is None else Path(root)
    return prepare_candidates(
        candidates, home, out, min_seconds=min_seconds, workers=workers, progress=progress, notes=notes
    )


def prepare_candidates(
    candidates: Sequence[Candidate],
    root: Path,
    out: str | Path,
    *,
    min_seconds: float,
    workers: int | None = None,
    progress: bool = True,
    notes: Sequence[str] = (),
    closed: Sequence[tuple[str, str]] = (),
    cut: Callable[[Utterance], Iterable[Utterance]] | None = None,
    journal: Path | None = None,
    unit: str = "file",
    speech: bool = True,
) -> Summary:
    """Examine the candidates' files, each once, judge them, write the manifest and the list of problems.

    Every way to prepare a corpus ends here. Same candidates and files, same bytes in ``out``.

    Args:
        candidates: in the order of the manifest; several may be parts of one file. What is silent or broken
            is judged by the whole file, what is too short by the part.
        root: folder that their paths start from.
        out, min_seconds, workers, progress: as for :func:`prepare_folder`.
        notes: said in the summary before those that the files themselves give rise to.
        closed: folders that could not be listed, and why.
        cut: makes several rows of a good one, such as pieces of a long recording.
        journal: remembers what was examined, for an interrupted scan. None is beside ``out`` and goes away
            at the end; one that is given stays, for the caller's next manifest.
        unit: what to call a row in the summary.
        speech: silence before and after it does not count towards ``min_seconds``; around noises it does.

    Raises:
        CorpusError: nothing usable among the candidates.
    """
    out = output_file(out)
    facts = _facts(candidates, root, journal or out.with_name(out.name + ".partial"), workers, progress)
    if not speech:
        facts = {path: replace(fact, sound=math.inf) for path, fact in facts.items()}
    good: list[Utterance] = []
    left_out = {name: Problem(name, "folder cannot be opened", detail) for name, detail in closed}
    for candidate in candidates:
        row = _row(candidate, facts[candidate.path], min_seconds)
        if isinstance(row, Problem):
            left_out.setdefault(row.path, row)
        else:
            good.extend([row] if cut is None else cut(row))
    problems = write_problems(out.with_suffix(".problems.csv"), list(left_out.values()))
    if not good:
        counts = ", ".join(f"{len(few):,} {why}" for why, few in by_reason(list(left_out.values())).items())
        first = next(iter(left_out.values()))
        example = f"{first.path}: {first.detail}"
        raise CorpusError(f"no usable audio in {root}: {counts}; e.g. {example}; all are in {problems}")
    save_manifest(Manifest(good, root), out)
    if journal is None:
        out.with_name(out.name + ".partial").unlink(missing_ok=True)
    speakers = len({u.speaker for u in good if u.speaker is not None})
    return Summary(
        manifest=out,
        taken=len(good),
        hours=sum(u.seconds for u in good) / 3600,
        speakers=speakers or None,
        left_out=tuple(left_out.values()),
        notes=(*notes, *worth_knowing({path: f for path, f in facts.items() if not f.fault})),
        problems=problems,
        unit=unit,
    )


def _facts(
    candidates: Sequence[Candidate], root: Path, journal: Path, workers: int | None, progress: bool
) -> dict[str, Facts]:
    paths = list(dict.fromkeys(c.path for c in candidates))
    return dict(zip(paths, examine_all([root / p for p in paths], journal, workers, progress), strict=True))


def _row(c: Candidate, fact: Facts, min_seconds: float) -> Utterance | Problem:
    """Return a candidate's row, or why it has none: by its path if the file is to blame, else by its id."""
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
    """Turn ``"{speaker}/*/*"`` into a function from a path to its label, or None where the path does not fit.

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
    """Return ``folder`` as a path, or raise if it is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"no folder {folder}" if not folder.exists() else f"{folder} is not a folder")
    return folder


def output_file(out: str | Path) -> Path:
    """Return the manifest to write as a path, or raise if a folder has its name."""
    out = Path(out)
    if out.is_dir():
        raise CorpusError(f"{out} is a folder; name the manifest file to write, such as {out / 'train.csv'}")
    return out


def _nothing_in(folder: Path, found: Found) -> str:
    """The message for a folder without audio: what was looked for, and what is there instead."""
    closed = f"; cannot open {found.closed[0][0]} ({found.closed[0][1]})" if found.closed else ""
    there = _kinds(found, 3) or "no files"
    return f"no audio in {folder}: looked for {', '.join(SUFFIXES)}; found {there}{closed}"


def _others(found: Found) -> list[str]:
    """A note on the files that are not taken for audio."""
    count = found.others.total()
    return [f"{counted(count, 'file')} not looked at: {_kinds(found, 8)}"] if count else []


def _kinds(found: Found, most: int) -> str:
    """``2 .txt, 1 without suffix and 1 more kind``."""
    kinds = sorted(found.others.items(), key=lambda item: (-item[1], item[0] == "", item[0]))
    named = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in kinds[:most])
    more = len(kinds) - most
    return f"{named} and {counted(more, 'more kind')}" if more > 0 else named
