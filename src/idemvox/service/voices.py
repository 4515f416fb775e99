"""What the routes do, in a thread of the service: uploads become voices, voices become answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from starlette.datastructures import UploadFile

from idemvox.errors import StoreError
from idemvox.service.schemas import SpeakerRow
from idemvox.verifier.claim import verify_claim
from idemvox.verifier.enrolment import Added, Enrolment
from idemvox.verifier.identification import Identification
from idemvox.verifier.names import printable
from idemvox.verifier.roster import Combining
from idemvox.verifier.store import SpeakerStore
from idemvox.verifier.verdict import Verdict
from idemvox.verifier.verifier import Verifier, Voice

__all__ = ["Voices"]

_NAME = 80  # characters of a file's name that are kept


class Voices:
    """The verifier and the store of a service; several threads may use it.

    Args:
        verifier: with its model.
        store: open, of that model.
        max_seconds: of audio in one recording.
    """

    def __init__(self, verifier: Verifier, store: SpeakerStore, max_seconds: float) -> None:
        self.verifier = verifier
        self.store = store
        self._longest = max_seconds

    @property
    def calibrated(self) -> bool:
        """Whether the model decides; otherwise it gives scores alone."""
        return self.verifier.calibration is not None

    def hear(self, upload: UploadFile) -> Voice:
        """Embed an upload, which messages call by its file name.

        Raises:
            AudioError: it cannot be read, or is too long.
        """
        return self.verifier.hear(upload.file, name=_name(upload), longest=self._longest)

    def enrol(self, name: str, uploads: Sequence[UploadFile], channel: str) -> tuple[Added, int]:
        """Enrol all uploads or none; return what was added, and how many enrolments the speaker has now."""
        prints = [self.verifier.voiceprint(self.hear(upload)) for upload in uploads]
        added = self.store.enrol(name, prints, channel=channel)
        return added, len(self.store.enrolments(name))

    def compare(self, first: UploadFile, second: UploadFile, rate: float) -> Verdict:
        """Compare two uploads."""
        return self.verifier.compare(self.hear(first), self.hear(second), false_accept_rate=rate)

    def claim(self, upload: UploadFile, name: str, channel: str | None, rate: float) -> Verdict:
        """Compare an upload with an enrolled speaker."""
        self.store.enrolments(name)  # an unknown name is refused before any work
        return verify_claim(
            self.verifier, self.hear(upload), name, store=self.store, channel=channel, false_accept_rate=rate
        )

    def identify(
        self, upload: UploadFile, top: int, channel: str | None, combining: Combining, rate: float
    ) -> Identification:
        """Say whose voice an upload is."""
        return self.verifier.identify(
            upload.file,
            top,
            store=self.store,
            channel=channel,
            combining=combining,
            false_accept_rate=rate,
            name=_name(upload),
            longest=self._longest,
        )

    def speakers(self) -> list[SpeakerRow]:
        """Return all speakers in alphabetical order."""
        rows = [
            SpeakerRow(speaker=name, enrolments=len(list(mine)))
            for name, mine in groupby(self.store.enrolments(), key=lambda e: e.speaker)
        ]
        return sorted(rows, key=lambda row: (row.speaker.casefold(), row.speaker))

    def show(self, name: str) -> list[Enrolment]:
        """Return the enrolments of a speaker."""
        return self.store.enrolments(name)

    def delete(self, name: str) -> tuple[int, bool]:
        """Delete a speaker; return the number of enrolments, and whether their bytes are overwritten."""
        count = len(self.store.enrolments(name))
        try:
            return self.store.delete(name), True
        except StoreError:
            if name in self.store.names():
                raise
            return count, False


def _name(upload: UploadFile) -> str:
    """Return the name of an upload's file without folders, short and printable."""
    name = printable(re.split(r"[/\\]", upload.filename or "")[-1]).strip()
    return name if 0 < len(name) <= _NAME else f"{name[:_NAME]}..." if name else "this recording"
