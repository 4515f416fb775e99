"""Kaldi data folders: ``wav.scp``, ``utt2spk`` and ``segments``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

from idemvox.corpus.checks.problems import Summary, counted
from idemvox.corpus.importers.layout import read_columns, reading
from idemvox.corpus.importers.registry import IMPORTERS, Setting
from idemvox.corpus.prepare import Listing, existing_folder, prepare_listing
from idemvox.corpus.table import Candidate
from idemvox.errors import CorpusError

__all__ = ["prepare_kaldi"]

FIRST = "write the audio to files first, e.g. with Kaldi's wav-copy, and list those"


@IMPORTERS.register(
    "kaldi",
    help="Prepare a Kaldi data folder: wav.scp, and utt2spk and segments if present.\n\n"
    "Lines of wav.scp must be files: commands (which end in |) are refused and never run.\n\n"
    "Example:\n\n  idemvox prepare kaldi data/train/ --out train.csv",
)
def prepare_kaldi(
    folder: str | Path,
    out: str | Path,
    *,
    root: Annotated[
        Path | None, Setting("Folder that relative paths start from; default: the current one.")
    ] = None,
    min_seconds: Annotated[float, Setting("Leave out files shorter than a crop.", least=0.1)] = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check the audio of a Kaldi data folder and write its manifest.

    With a ``segments`` file, a row is a part of a recording, and ``recording`` is the recording's name in
    ``wav.scp``; each recording is decoded once. A segment may end up to 0.5 s after its recording, as in
    Kaldi, and is then cut at its end. An end of -1 means the end of the recording.

    Args:
        folder: has ``wav.scp``, and ``utt2spk`` if speakers are known.
        out: the CSV file to write.
        root: folder that relative paths start from; None for the current one, as in Kaldi.
        min_seconds, workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: there is no ``wav.scp``, a line of it is a command (never run) or an offset into an
            archive, a line of any file is malformed, or no audio is usable.
    """
    folder = existing_folder(folder)
    if not (folder / "wav.scp").exists():
        raise CorpusError(f"no Kaldi data folder in {folder}: looked for wav.scp (and utt2spk, segments)")
    paths = _paths(folder / "wav.scp")
    speakers = _speakers(folder / "utt2spk")
    if (folder / "segments").exists():
        candidates = _segments(folder / "segments", paths, speakers)
    else:
        candidates = [Candidate(name, path, speakers.get(name)) for name, path in paths.items()]
    if not candidates:
        raise CorpusError(f"{folder} lists no audio: wav.scp or segments is empty")
    unknown = sum(c.speaker is None for c in candidates)
    notes = [f"speaker unknown of {counted(unknown, 'utterance')}: not in utt2spk"] if unknown else []
    listing = Listing(candidates, root or Path.cwd(), notes, unit="utterance")
    return prepare_listing(listing, out, min_seconds, workers, progress)


def _paths(scp: Path) -> dict[str, str]:
    """Return the path of each name; paths may contain spaces."""
    paths: dict[str, str] = {}
    with reading(scp), scp.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name, path = (*line.strip().split(maxsplit=1), "")[:2]
            where = f"{scp}, line {number}"
            if not path:
                raise CorpusError(f"{where}: expected 'name path', got {line.strip()[:120]!r}")
            if path.endswith("|") or path.startswith("|"):
                raise CorpusError(
                    f"{where}: {name} comes from a command ({path[:80]!r}), and idemvox runs none; {FIRST}"
                )
            if re.search(r":\d+(\[.*\])?$", path):
                raise CorpusError(f"{where}: {name} is in an archive ({path[-80:]!r}); {FIRST}")
            if name in paths:
                raise CorpusError(f"{where}: {name} is listed twice; names must be unique")
            paths[name] = path
    return paths


def _speakers(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    return {name: speaker for _, (name, speaker, *_) in read_columns(file, "utterance speaker")}


def _segments(file: Path, paths: dict[str, str], speakers: dict[str, str]) -> list[Candidate]:
    candidates: dict[str, Candidate] = {}
    for number, (name, recording, first, last, *_) in read_columns(file, "utterance recording start end"):
        try:
            start, end = float(first), float(last)
        except ValueError:
            start = end = math.nan
        if not (0 <= start < math.inf and (end > start or end == -1)):
            raise CorpusError(
                f"{file}, line {number}: {first} to {last} is not a part of a recording, in seconds"
            )
        if recording not in paths:
            raise CorpusError(f"{file}, line {number}: recording {recording} is not in wav.scp")
        if name in candidates:
            raise CorpusError(f"{file}, line {number}: {name} is listed twice; names must be unique")
        end_or_none = None if end == -1 else end
        candidates[name] = Candidate(
            name, paths[recording], speakers.get(name), recording, start, end_or_none
        )
    return list(candidates.values())
