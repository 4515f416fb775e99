"""RIRS_NOISES: simulated room impulse responses, and optionally the measured ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from idemvox.corpus.checks.official import Official
from idemvox.corpus.checks.problems import Summary
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.importers.layout import joined, places, read_columns
from idemvox.corpus.importers.registry import IMPORTERS, Setting
from idemvox.corpus.prepare import Listing, existing_folder, prepare_listing
from idemvox.corpus.table import Candidate
from idemvox.errors import CorpusError

__all__ = ["prepare_rirs"]

SIMULATED, REAL = "simulated_rirs", "real_rirs_isotropic_noises"


@IMPORTERS.register(
    "rirs",
    help="Prepare the room impulse responses of RIRS_NOISES: simulated_rirs/smallroom/Room001/*.wav.\n\n"
    "Example:\n\n  idemvox prepare rirs RIRS_NOISES/ --out rirs.csv",
    official=(
        Official(
            "rirs",
            re.compile(r"(?:small|medium|large)room/Room\d{3}/Room\d{3}-\d{5}(?![^.])"),
            {"files": 60_000},
            speech=False,
            note="the simulated ones",
        ),
    ),
)
def prepare_rirs(
    folder: str | Path,
    out: str | Path,
    *,
    real: Annotated[bool, Setting("Also take the measured responses, not only the simulated ones.")] = False,
    min_seconds: float = 0.05,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check the room impulse responses of RIRS_NOISES and write their manifest.

    Ids are paths, ``simulated_rirs/smallroom/Room001/Room001-00001.wav``; the recording is the room,
    ``smallroom/Room001``.

    Args:
        folder: has ``simulated_rirs``, or ``RIRS_NOISES`` with it.
        out: the CSV file to write.
        real: also take the measured responses, which ``real_rirs_isotropic_noises/rir_list`` names (the
            folder also has noises). Most have several channels, which reading averages. The channels are
            different positions, so the average is not a real response.
        min_seconds: length of the shortest response to take.
        workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: there is no RIRS_NOISES in the folder, no list of the measured responses, or no usable
            audio.
    """
    folder = existing_folder(folder)
    homes = places(folder, SIMULATED, depth=1)
    found = find_audio(folder / homes[0] / SIMULATED) if homes else None
    if not found or not found.files:
        raise CorpusError(
            f"no RIRS_NOISES in {folder}: looked for {SIMULATED}/smallroom/Room001/*.wav (and mediumroom, "
            "largeroom) in it and in RIRS_NOISES/"
        )
    home = homes[0]
    candidates = []
    for name in found.files:
        path = f"{SIMULATED}/{name}"
        candidates.append(Candidate(path, joined(home, path), recording=name.rpartition("/")[0] or None))
    if real:
        candidates += _real(folder, home)
    closed = [(joined(home, f"{SIMULATED}/{name}"), why) for name, why in found.closed]
    listing = Listing(candidates, folder, closed=closed, speech=False)
    return prepare_listing(listing, out, min_seconds, workers, progress)


def _real(folder: Path, home: str) -> list[Candidate]:
    """Read lines ``--rir-id 00001 --room-id NAME RIRS_NOISES/real_rirs_isotropic_noises/x.wav``."""
    listed = folder / home / REAL / "rir_list"
    candidates = []
    for _, fields in read_columns(listed, "--rir-id NUMBER --room-id NAME FILE"):
        path = f"{REAL}/{Path(fields[-1]).name}"
        candidates.append(Candidate(path, joined(home, path), recording=f"real/{fields[3]}"))
    return sorted(candidates, key=lambda c: c.id)
