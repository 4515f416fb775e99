"""Several crops of an utterance, embedded instead of the whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from idemvox.audio.read import SAMPLE_RATE
from idemvox.errors import IdemvoxError
from idemvox.verification.embedding.embeddings import Floats
from idemvox.verification.embedding.waves import SHORTEST

__all__ = ["Crops"]


@dataclass(frozen=True, slots=True)
class Crops:
    """Several crops of an utterance instead of the whole, at equal distances from its start to its end.

    Two utterances then score the mean of all pairs of their crops, as in voxceleb_trainer ("10 x 10").

    Attributes:
        count: crops of one utterance, n.
        seconds: length of each; a shorter utterance is its own only crop.
    """

    count: int = 10
    seconds: float = 4.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seconds * SAMPLE_RATE < SHORTEST:
            raise IdemvoxError(f"there must be 1 crop or more, of at least {SHORTEST / SAMPLE_RATE} s")

    def __str__(self) -> str:
        return f"{self.count} crops of {self.seconds:g} s, mean of all pairs"

    def cut(self, wave: Floats) -> list[Floats]:
        """Return the crops of a wave (T,), or the wave alone if it is no longer than one."""
        length = round(self.seconds * SAMPLE_RATE)
        if len(wave) <= length:
            return [wave]
        starts = np.linspace(0, len(wave) - length, self.count).astype(np.int64)
        return [wave[start : start + length] for start in starts.tolist()]
