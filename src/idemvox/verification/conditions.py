"""What recordings are like: bandwidth, level, duration; and how another recording differs from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["Conditions", "Facts"]

_RARE = 0.05  # a bandwidth that a smaller share of recordings has is unusual
_LEVEL = 6.0  # dB outside the usual range that are remarkable
_SHORTER = 1.5  # so many times shorter than usual is remarkable


class Facts(Protocol):
    """What one recording is like."""

    @property
    def speech(self) -> float:
        """Seconds of speech, above 0."""

    @property
    def level(self) -> float:
        """RMS of the speech in dB of full scale; NaN if it is not known."""

    @property
    def narrow(self) -> bool:
        """Whether it has nothing above 4 kHz, as over a telephone."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the recordings of a calibration are like; ranges are percentiles 2.5 and 97.5.

    Attributes:
        recordings: their number.
        narrow: share with nothing above 4 kHz, as over a telephone.
        speech: seconds of speech.
        level: RMS of the speech in dB of full scale.
        across: share of the target trials that compare different recordings (calls, sessions) of a speaker;
            ``None`` if recordings are unknown.
    """

    recordings: int
    narrow: float
    speech: tuple[float, float]
    level: tuple[float, float]
    across: float | None = None

    @classmethod
    def of(cls, facts: Iterable[Facts], across: float | None = None) -> Conditions:
        """Return what one or more recordings with speech are like."""
        every = list(facts)
        narrow = sum(one.narrow for one in every) / len(every)
        speech, level = _usual([one.speech for one in every]), _usual([one.level for one in every])
        return cls(len(every), narrow, speech, level, across)

    def __str__(self) -> str:
        text = (
            f"{self.recordings:,} recordings with {_range(self.speech, '.1f')} s of speech at "
            f"{_range(self.level, '.0f')} dB, {self.narrow:.0%} of telephone bandwidth"
        )
        if self.across is None:
            return text
        return f"{text}; {self.across:.0%} of the target trials are across recordings"

    def unlike(self, facts: Facts) -> list[str]:
        """Return in words each way in which a recording differs from these; empty if it is like them."""
        found = []
        if facts.narrow and self.narrow < _RARE:
            found.append(f"it has nothing above 4 kHz, like {_share(self.narrow)}")
        if not facts.narrow and self.narrow > 1 - _RARE:
            found.append(f"it has sound above 4 kHz, like {_share(1 - self.narrow)}")
        if facts.speech * _SHORTER < self.speech[0]:
            found.append(f"it has {facts.speech:.1f} s of speech; {_usually(self.speech, '.1f')} s")
        if facts.level < self.level[0] - _LEVEL or facts.level > self.level[1] + _LEVEL:  # never for NaN
            found.append(f"its level is {facts.level:.0f} dB; {_usually(self.level, '.0f')} dB")
        return found

    def unfit(self) -> list[str]:
        """Return in words what makes a threshold set on these recordings optimistic."""
        if self.across is None or self.across >= _RARE:
            return []
        return [
            "the threshold was set on pairs from the same recording; pairs from different recordings score "
            "lower, so more of them will be rejected"
        ]


def _usual(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def _range(values: tuple[float, float], form: str) -> str:
    return f"{values[0]:{form}} to {values[1]:{form}}"


def _share(part: float) -> str:
    return f"{part:.0%} of the recordings that the threshold was set on"


def _usually(values: tuple[float, float], form: str) -> str:
    return f"95 % of the recordings that the threshold was set on have {_range(values, form)}"
