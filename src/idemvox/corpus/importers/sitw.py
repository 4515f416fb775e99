"""Speakers in the Wild: ``dev`` and ``eval``, each with ``audio``, ``lists`` and ``keys``."""

from __future__ import annotations

from pathlib import Path

from idemvox.corpus.checks.problems import Summary, counted
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.importers.layout import (
    TrialFile,
    joined,
    places,
    read_columns,
    read_models,
    with_trials,
    write_trials,
)
from idemvox.corpus.importers.registry import IMPORTERS
from idemvox.corpus.prepare import Listing, existing_folder, prepare_listing
from idemvox.corpus.table import Candidate
from idemvox.errors import CorpusError

__all__ = ["prepare_sitw"]

CONDITIONS = ("core-core", "core-multi")
"""Conditions that enrol from whole files; the assist conditions enrol from marked parts."""


@IMPORTERS.register(
    "sitw",
    help="Prepare Speakers in the Wild: dev/ and eval/ with audio/, lists/ and keys/.\n\n"
    "Also writes the core-core and core-multi trials, in the manifest's ids, to trials/ beside the "
    "manifest.\n\n"
    "Example:\n\n  idemvox prepare sitw sitw_database.v4/ --out sitw.csv",
)
def prepare_sitw(
    folder: str | Path,
    out: str | Path,
    *,
    min_seconds: float = 0.1,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check SITW; write the manifest of the available parts, and their trials beside it.

    Ids are paths below ``folder``, ``eval/audio/unotx.flac``. Speaker and recording (the session, one
    original video) come from ``keys/meta.lst``. We have not confirmed that ``eval`` has this file; without it
    they are unknown.

    ``trials/sitw-eval-core-core.txt`` and similar files (dev, core-multi) hold the trials of ``keys/``, with
    the enrolment models replaced by their files from ``lists/enroll-core.lst``. The assist conditions, which
    enrol from marked parts of a file, are not supported.

    Args:
        folder: has ``dev`` or ``eval`` or both, or ``sitw_database.v4`` with them, or is one of them.
        out: the CSV file to write.
        min_seconds: length of the shortest utterance to take; trial lists need all.
        workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: there is no SITW in the folder, a list is missing or malformed, or no audio is usable.
    """
    folder, out = existing_folder(folder), Path(out)
    parts = [place for place in places(folder, "audio") if (folder / place / "keys").is_dir()]
    if not parts:
        raise CorpusError(
            f"no SITW in {folder}: looked for audio/, lists/enroll-core.lst and keys/core-core.lst in it, in "
            "dev/ and eval/, and in sitw_database.v4/"
        )
    candidates: list[Candidate] = []
    trials: list[TrialFile] = []
    closed: list[tuple[str, str]] = []
    for place in parts:
        part = folder / place
        found = find_audio(part / "audio")
        closed += [(joined(place, f"audio/{name}"), why) for name, why in found.closed]
        models = read_models(part / "lists" / "enroll-core.lst")
        tests = (fields[0] for _, fields in read_columns(part / "lists" / "test-core.lst", "file"))
        files = sorted({*models.values(), *tests, *(f"audio/{name}" for name in found.files)})
        about = _about(part / "keys" / "meta.lst")
        for name in files:
            path = joined(place, name)
            candidates.append(Candidate(path, path, *about.get(name, (None, None))))
        for condition in CONDITIONS:
            keys = part / "keys" / f"{condition}.lst"
            if condition == "core-core" or keys.exists():
                to = out.parent / "trials" / f"sitw-{part.resolve().name}-{condition}.txt"
                trials.append(write_trials(keys, to, models, files, place))
    unknown = sum(c.speaker is None for c in candidates)
    notes = [f"speaker unknown of {counted(unknown, 'file')}: not in keys/meta.lst"] if unknown else []
    summary = prepare_listing(Listing(candidates, folder, notes, closed), out, min_seconds, workers, progress)
    return with_trials(summary, trials)


def _about(meta: Path) -> dict[str, tuple[str, str]]:
    """Return the speaker and session of each file; empty if there is no such list."""
    if not meta.exists():
        return {}
    rows = read_columns(meta, "file speaker gender microphone session")
    return {name: (speaker, session) for _, (name, speaker, _, _, session, *_) in rows}
