"""MUSAN: noise, music and speech for augmentation, cut into pieces that are fast to read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from idemvox.corpus.checks.official import Official
from idemvox.corpus.checks.problems import Summary
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.importers.layout import joined, places
from idemvox.corpus.importers.registry import IMPORTERS, Setting
from idemvox.corpus.manifest import Utterance
from idemvox.corpus.prepare import Listing, existing_folder, prepare_listing
from idemvox.corpus.table import Candidate
from idemvox.errors import CorpusError

__all__ = ["KINDS", "prepare_musan"]

KINDS = ("noise", "music", "speech")


def _official(name: str, kinds: str, counts: Mapping[str, int]) -> Official:
    """Return counts for names like ``noise/free-sound/noise-free-sound-0000.wav``."""
    pattern = re.compile(rf"(?:^|/)(?P<kind>{kinds})-[a-z-]+-\d{{4}}(?![^.])")
    return Official(name, pattern, counts, speech=False)


@IMPORTERS.register(
    "musan",
    help="Prepare MUSAN: noise/, music/ and speech/, each cut into pieces, with its own manifest.\n\n"
    "No audio is written: a row gives the start of the piece in its file. --out musan.csv gives "
    "musan.noise.csv, musan.music.csv and musan.speech.csv.\n\n"
    "Example:\n\n  idemvox prepare musan musan/ --out musan.csv",
    official=(
        _official("musan", "music|noise|speech", {"music": 660, "noise": 930, "speech": 426, "files": 2_016}),
        _official("musan-music", "music", {"files": 660}),
        _official("musan-noise", "noise", {"files": 930}),
        _official("musan-speech", "speech", {"files": 426}),
    ),
)
def prepare_musan(
    folder: str | Path,
    out: str | Path,
    *,
    piece: Annotated[float, Setting("Length of a piece, in seconds.", least=0.1)] = 5.0,
    min_seconds: float = 1.0,
    workers: int | None = None,
    progress: bool = True,
) -> list[Summary]:
    """Check MUSAN and write a manifest for each kind: ``musan.csv`` gives ``musan.noise.csv`` and so on.

    A row is a piece of a file that begins at ``start``; no audio is written. An id is the path and the number
    of the piece, ``noise/free-sound/noise-free-sound-0000.wav#0000``; the recording is the file.

    Args:
        folder: has some or all of ``noise``, ``music`` and ``speech``, or ``musan`` with them.
        out: manifest to write; the kind is inserted into the name.
        piece: length of a piece in seconds.
        min_seconds: length of the shortest file and of the shortest last piece to take.
        workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Returns:
        One summary for each available kind.

    Raises:
        CorpusError: there is no MUSAN in the folder, or a kind has no usable audio.
    """
    folder, out = existing_folder(folder), Path(out)
    homes = places(folder, "|".join(KINDS), depth=1)
    if not homes:
        raise CorpusError(f"no MUSAN in {folder}: looked for {', '.join(KINDS)} in it and in musan/")
    if piece < min_seconds:
        raise CorpusError(f"pieces of {piece:g} s are shorter than the shortest to take, {min_seconds:g} s")

    def cut(row: Utterance) -> Iterator[Utterance]:
        for number in range(math.ceil(row.seconds / piece)):
            start = number * piece
            seconds = min(piece, row.seconds - start)
            if seconds >= min_seconds:
                yield replace(row, id=f"{row.id}#{number:04}", seconds=seconds, start=start)

    home = homes[0]
    journal = out.with_name(out.name + ".partial")  # one for all three, so that no file is examined again
    summaries = []
    for kind in KINDS:
        if not (folder / home / kind).is_dir():
            continue
        found = find_audio(folder / home / kind)
        if not found.files:
            raise CorpusError(f"no audio in {folder / home / kind}; unpack the corpus again")
        names = [f"{kind}/{name}" for name in found.files]
        closed = [(joined(home, f"{kind}/{name}"), why) for name, why in found.closed]
        candidates = [Candidate(name, joined(home, name), recording=name) for name in names]
        listing = Listing(candidates, folder, closed=closed, unit="piece", speech=False, cut=cut)
        to = out.with_name(f"{out.stem}.{kind}{out.suffix}")
        summaries.append(prepare_listing(listing, to, min_seconds, workers, progress, journal))
    journal.unlink(missing_ok=True)
    return summaries
