"""What goes into a speaker store, and what comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

__all__ = ["Added", "Enrolment", "Voiceprint"]


@dataclass(frozen=True, slots=True, eq=False)
class Voiceprint:
    """What is stored of one recording.

    Attributes:
        embedding: (D,) as the encoder gives it.
        source: name of the recording, for people.
        seconds: seconds of speech; ``None`` if unknown. Some calibrations use them.
        quality: such as a signal-to-noise ratio in dB; likewise.
        narrow: whether it has nothing above 4 kHz, as over a telephone; ``None`` if unknown.
        added: UTC, ISO 8601; ``None``: now.
    """

    embedding: ArrayLike
    source: str = ""
    seconds: float | None = None
    quality: float | None = None
    narrow: bool | None = None
    added: str | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One stored embedding, without its numbers.

    Attributes:
        id: never given to another enrolment of the store, not even after deletion.
        speaker: name.
        channel: such as ``phone``; empty if none was named.
        source, seconds, quality, narrow, added: as in :class:`Voiceprint`.
    """

    id: int
    speaker: str
    channel: str
    source: str
    seconds: float | None
    quality: float | None
    narrow: bool | None
    added: str

    @classmethod
    def of(cls, row: Sequence[Any]) -> Enrolment:
        """Return the enrolment of a database's row, its columns in the order of the fields."""
        key, speaker, channel, source, seconds, quality, narrow, added = row
        known = None if narrow is None else bool(narrow)
        return cls(key, speaker, channel, source, seconds, quality, known, added)


@dataclass(frozen=True, slots=True)
class Added:
    """What an enrolment did.

    Attributes:
        count: embeddings added.
        known: sources of recordings that the speaker had been enrolled with before; they are not added twice.
    """

    count: int
    known: tuple[str, ...] = ()
