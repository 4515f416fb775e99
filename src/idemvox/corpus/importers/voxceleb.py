"""VoxCeleb1 and VoxCeleb2: ``wav/id10001/1zcIwhmdeo4/00001.wav``, ``aac/id00012/21Uxsk56VDQ/00001.m4a``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from idemvox.corpus.checks.official import Official
from idemvox.corpus.checks.problems import Summary, counted
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.importers.layout import joined, places
from idemvox.corpus.importers.registry import IMPORTERS
from idemvox.corpus.prepare import Listing, existing_folder, prepare_listing
from idemvox.corpus.table import Candidate
from idemvox.errors import CorpusError

__all__ = ["prepare_voxceleb1", "prepare_voxceleb2"]

SPEAKERS = {"VoxCeleb1": r"id1\d{4}", "VoxCeleb2": r"id0\d{4}"}
TEST_1 = "0(?:2[789]|30)[0-9]"  # id10270 to id10309: the names that start with E
PREFERRED = (".wav", ".flac")  # formats to prefer if an utterance has two files: fast to read at any position


def _official(name: str, speaker: str, speakers: int, recordings: int, utterances: int) -> Official:
    """Return counts for names like ``id10001/1zcIwhmdeo4/00001.wav``, also with hyphens."""
    pattern = re.compile(rf"(?P<speaker>{speaker})[/-](?P<recording>[^/]{{11}})[/-]\d{{5}}(?![^.])")
    counts = {"speakers": speakers, "recordings": recordings, "utterances": utterances}
    return Official(name, pattern, counts)


@IMPORTERS.register(
    "voxceleb1",
    help="Prepare VoxCeleb1: wav/id10001/VIDEO/00001.wav, in vox1_dev_wav/, vox1_test_wav/ or both.\n\n"
    "Ids are those of the official trial lists, which can thus be evaluated with --manifest.\n\n"
    "Example:\n\n  idemvox prepare voxceleb1 voxceleb1/ --out voxceleb1.csv",
    official=(
        _official("voxceleb1", SPEAKERS["VoxCeleb1"], 1_251, 22_496, 153_516),
        _official("voxceleb1-dev", rf"id1(?!{TEST_1})\d{{4}}", 1_211, 21_819, 148_642),
        _official("voxceleb1-test", rf"id1{TEST_1}", 40, 677, 4_874),
    ),
)
def prepare_voxceleb1(
    folder: str | Path,
    out: str | Path,
    *,
    min_seconds: float = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check VoxCeleb1 and write its manifest.

    Ids are those of the official trial lists, ``id10001/1zcIwhmdeo4/00001.wav``, for any file format. A
    recording is a speaker's video, ``id10001/1zcIwhmdeo4``. The first release, with names instead of
    ``id10001``, is not supported.

    Args:
        folder: has the speakers' folders directly or up to three levels down, as in ``wav/`` or
            ``vox1_dev_wav/wav/`` and ``vox1_test_wav/wav/``; several such places give one manifest.
        out, min_seconds, workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: there is no VoxCeleb1 in the folder, or no usable audio.
    """
    return prepare_listing(_listing("VoxCeleb1", folder), out, min_seconds, workers, progress)


@IMPORTERS.register(
    "voxceleb2",
    help="Prepare VoxCeleb2: aac/id00012/VIDEO/00001.m4a, or converted files in wav/.\n\n"
    "To train, give the dev folder only.\n\n"
    "Example:\n\n  idemvox prepare voxceleb2 voxceleb2/dev/ --out voxceleb2.csv",
    official=(
        _official("voxceleb2", SPEAKERS["VoxCeleb2"], 6_112, 150_480, 1_128_246),
        _official("voxceleb2-dev", SPEAKERS["VoxCeleb2"], 5_994, 145_569, 1_092_009),
        _official("voxceleb2-test", SPEAKERS["VoxCeleb2"], 118, 4_911, 36_237),
    ),
)
def prepare_voxceleb2(
    folder: str | Path,
    out: str | Path,
    *,
    min_seconds: float = 2.0,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check VoxCeleb2 and write its manifest.

    If there are both, converted files (``wav/``) are preferred to ``aac/``, because seeking in them is free.
    Ids are paths that start at the speaker, ``id00012/21Uxsk56VDQ/00001.m4a``.

    Args:
        folder: as for :func:`prepare_voxceleb1`, for example with ``dev/aac/`` and ``test/aac/``.
        out, min_seconds, workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: there is no VoxCeleb2 in the folder, or no usable audio.
    """
    return prepare_listing(_listing("VoxCeleb2", folder), out, min_seconds, workers, progress)


def _listing(corpus: str, folder: str | Path) -> Listing:
    """Return one file for each utterance of VoxCeleb1 or VoxCeleb2."""
    folder = existing_folder(folder)
    bases = places(folder, SPEAKERS[corpus])
    if not bases:
        raise _not_here(corpus, folder)
    chosen: dict[str, tuple[int, str]] = {}  # speaker/video/utterance -> rank of the format, path
    strays: list[str] = []
    closed: list[tuple[str, str]] = []
    twice = 0
    layout = re.compile(f"({SPEAKERS[corpus]}/[^/]+/[^/]+)[.][^./]+")
    for base in bases:
        found = find_audio(folder / base)
        closed += [(joined(base, name), why) for name, why in found.closed]
        for name in found.files:
            match = layout.fullmatch(name)
            if not match:
                strays.append(joined(base, name))
                continue
            suffix = os.path.splitext(name)[1].lower()
            rank = PREFERRED.index(suffix) if suffix in PREFERRED else len(PREFERRED)
            known = chosen.get(match[1])
            twice += known is not None
            if known is None or rank < known[0]:
                chosen[match[1]] = rank, joined(base, name)
    if not chosen:
        raise _not_here(corpus, folder)
    candidates = []
    for name, (_, path) in sorted(chosen.items()):
        speaker, video, _ = name.split("/")
        suffix = ".wav" if corpus == "VoxCeleb1" else os.path.splitext(path)[1]
        candidates.append(Candidate(name + suffix, path, speaker, f"{speaker}/{video}"))
    notes = []
    if twice:
        notes.append(f"{counted(twice, 'file')} of an utterance that has another file: not taken")
    if strays:
        notes.append(f"{counted(len(strays), 'file')} outside speaker/video/: not taken, e.g. {strays[0]}")
    return Listing(candidates, folder, notes, closed)


def _not_here(corpus: str, folder: Path) -> CorpusError:
    example = "id10001/VIDEO/00001.wav" if corpus == "VoxCeleb1" else "id00012/VIDEO/00001.m4a"
    others = [name for name, speakers in SPEAKERS.items() if name != corpus and places(folder, speakers)]
    hint = f"; this is {others[0]}: idemvox prepare {others[0].lower()}" if others else ""
    return CorpusError(
        f"no {corpus} in {folder}: looked for {example} in it and up to three levels down, such as in wav/, "
        f"dev/aac/ or vox1_dev_wav/wav/{hint}"
    )
