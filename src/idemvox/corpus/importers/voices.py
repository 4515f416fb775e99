"""VOiCES from a Distance, development data of the 2019 challenge: ``sid_dev`` and its lists and keys."""

from __future__ import annotations

import re
from pathlib import Path

from idemvox.corpus.checks.official import Official
from idemvox.corpus.checks.problems import Summary, counted
from idemvox.corpus.importers.layout import (
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

__all__ = ["TRIALS", "prepare_voices"]

TRIALS = "voices2019-dev.txt"
ENROL, TEST, KEYS = "dev-enroll.lst", "dev-test.lst", "dev-trial-keys.lst"
NAME = re.compile(r".*-(rm\d+)-([a-z]+)-(sp\d+)-(ch\d+)-sg\d+-(mc\d+)-.*")


@IMPORTERS.register(
    "voices",
    help="Prepare the VOiCES 2019 development data: sid_dev/ and its lists.\n\n"
    "Also writes the trials, in the manifest's ids, to trials/ beside the manifest.\n\n"
    "Example:\n\n  idemvox prepare voices VOiCES_Box_unzip/ --out voices.csv",
    official=(
        Official(
            "voices-dev",
            re.compile(r"rm\d+-[a-z]+-(?P<speaker>sp\d+)-[^/.]+"),
            {"speakers": 196, "utterances": 15_904},
        ),
    ),
)
def prepare_voices(
    folder: str | Path,
    out: str | Path,
    *,
    min_seconds: float = 0.1,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Check the VOiCES 2019 development data; write the manifest, and the trials beside it.

    The files are those in ``dev-enroll.lst`` and ``dev-test.lst``; their paths there are the ids:
    ``sid_dev/sp0032/Lab41-SRI-VOiCES-rm1-none-sp0032-ch127535-sg0012-mc01-stu-clo-dg080.wav``. The name gives
    the speaker (``sp0032``) and the recording, ``rm1-none-mc01-ch127535``. Chapters (ch) were played in a
    room (rm) with a distractor (none, babble, music, television) and recorded by several microphones (mc), so
    these four define a recording.

    ``trials/voices2019-dev.txt`` holds the 4,038,656 trials of ``dev-trial-keys.lst``, with the enrolment
    models replaced by their files.

    Args:
        folder: has ``sid_dev`` and the lists, at most four levels down (as published, both are in
            ``Development_Data/Speaker_Recognition``, the lists in ``sid_dev_lists_and_keys``).
        out: the CSV file to write.
        min_seconds: length of the shortest utterance to take; trial lists need all.
        workers, progress: as for :func:`~idemvox.corpus.prepare.prepare_folder`.

    Raises:
        CorpusError: ``sid_dev`` or a list is missing, a list is malformed, or no audio is usable.
    """
    folder, out = existing_folder(folder), Path(out)
    homes = places(folder, "sid_dev", depth=4)
    lists = {name: places(folder, re.escape(name), depth=4) for name in (ENROL, TEST, KEYS)}
    if not homes or not all(lists.values()):
        wanted = {"sid_dev/": homes, **lists}
        present = ", ".join(name for name, paths in wanted.items() if paths) or "none of them"
        raise CorpusError(
            f"no VOiCES 2019 development data in {folder}: looked for {', '.join(wanted)} up to four levels "
            f"down; found {present}"
        )
    enrol, test, keys = (folder / paths[0] / name for name, paths in lists.items())
    models = read_models(enrol)
    files = sorted({*models.values(), *(fields[0] for _, fields in read_columns(test, "file"))})
    trials = write_trials(keys, out.parent / "trials" / TRIALS, models, files)
    candidates = [_candidate(homes[0], name) for name in files]
    unknown = [c.id for c in candidates if c.speaker is None]
    notes = [f"speaker unknown of {counted(len(unknown), 'file')}, e.g. {unknown[0]}"] if unknown else []
    summary = prepare_listing(Listing(candidates, folder, notes), out, min_seconds, workers, progress)
    return with_trials(summary, [trials], homes[0])


def _candidate(home: str, name: str) -> Candidate:
    match = NAME.fullmatch(name)
    if not match:
        return Candidate(name, joined(home, name))
    room, distractor, speaker, chapter, microphone = match.groups()
    return Candidate(name, joined(home, name), speaker, f"{room}-{distractor}-{microphone}-{chapter}")
