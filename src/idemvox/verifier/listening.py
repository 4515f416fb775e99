"""Listen to a recording before it is embedded: where it has speech, and what may be wrong with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from idemvox.arrays import Numbers, Wave
from idemvox.audio.read import SAMPLE_RATE, cancelling
from idemvox.audio.recording import Source
from idemvox.audio.sound import TELEPHONE, Listener
from idemvox.audio.speech import FRAME, SILENT, Activity, speech

__all__ = ["Facts", "Heard", "listen"]

Content = Literal["speech", "steady sound", "constant", "silence"]

MARGIN = 0.15  # seconds kept before and after each stretch of speech, for its quiet beginning and end
WINDOW = 60.0  # seconds of speech that are embedded at a time, at most
PEAK = 1e-3  # of full scale: a constant offset above it is not silence, but a fault
NARROW = 12_000  # Hz: a sample rate below this leaves out what a telephone leaves out
BLOCK = 1 << 18  # samples measured at a time


@dataclass(frozen=True, slots=True)
class Facts:
    """What a recording is like.

    Attributes:
        name: its path, or "this recording".
        content: "speech", or why it has none: a steady sound (noise, hum, a tone), a constant, silence.
        seconds: its length.
        speech: seconds of speech, pauses of up to 0.5 s included.
        level: RMS of the speech in dB of full scale; ``-inf`` without speech, NaN if it is not known.
        clipped: share of the samples in flat tops, relative to the speech; see
            :class:`~idemvox.audio.sound.Listener`.
        narrow: whether it has nothing above 4 kHz, as over a telephone.
        cancelling: whether its channels cancel each other; then the louder one was read.
        digest: hash of its 16-bit samples.
    """

    name: str
    content: Content
    seconds: float
    speech: float
    level: float
    clipped: float
    narrow: bool
    cancelling: bool
    digest: int


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A recording that has been listened to.

    Attributes:
        spans: (S, 2) first sample at 16 kHz of each stretch of speech, and the one after its last; with
            0.15 s before and after it.
    """

    facts: Facts
    spans: Numbers
    _blocks: Iterable[Wave]

    def windows(self) -> Iterator[Wave]:
        """Yield the speech without what is around it, (T,) at 16 kHz: in equal windows of at most 60 s."""
        total = int((self.spans[:, 1] - self.spans[:, 0]).sum())
        if not total:
            return
        count = math.ceil(total / (WINDOW * SAMPLE_RATE))
        pieces: list[Wave] = []
        held = window = 0
        for piece in _cut(self._blocks, self.spans):
            while window < count and held + len(piece) >= (size := _size(total, count, window)):
                yield np.concatenate([*pieces, piece[: size - held]])
                piece, pieces, held, window = piece[size - held :], [], 0, window + 1
            pieces.append(piece)
            held += len(piece)


def listen(source: Source) -> Heard:
    """Decode a recording from start to end, measure it and find its speech.

    A short recording (:attr:`~idemvox.audio.recording.Source.short`) is held in memory; a longer one is
    decoded again for :meth:`Heard.windows`.

    Raises:
        AudioError: it cannot be decoded, or has NaN or infinite samples.
    """
    ear = _Ear(source.rate)
    held: list[Wave] = []
    for block in source.blocks(ear.hear):
        ear.activity.feed(block)
        ear.samples += len(block)
        if source.short:
            held.append(block)
    facts, spans = ear.facts(source.name)
    return Heard(facts, spans, held if source.short else _Again(source))


@dataclass(frozen=True, slots=True)
class _Again:
    """Decodes a recording again."""

    source: Source

    def __iter__(self) -> Iterator[Wave]:
        return self.source.blocks()


class _Ear:
    """Measures a recording, block by block.

    Attributes:
        samples: length so far, at 16 kHz.
    """

    def __init__(self, rate: int) -> None:
        self.activity = Activity(SAMPLE_RATE)
        self.samples = 0
        self._rate, self._listener, self._cancelling = rate, Listener(rate), False

    def hear(self, samples: Wave, mono: Wave) -> None:
        """Measure the next samples at their own rate: (T, channels), and (T,) as they are read."""
        if samples.shape[1] > 1 and np.abs(mono).max(initial=0) >= PEAK:
            self._cancelling |= cancelling(samples, samples.mean(axis=1)) is not None
        for start in range(0, len(mono), BLOCK):
            self._listener.feed(mono[start : start + BLOCK])

    def facts(self, name: str) -> tuple[Facts, Numbers]:
        """Return the measurements, and the spans of speech in samples at 16 kHz."""
        sound, powers = self._listener.sound(), self.activity.powers
        stretches = speech(powers)
        frames = int((stretches[:, 1] - stretches[:, 0]).sum())
        content: Content = "speech"
        if not frames:
            content = "steady sound"
            if powers.max(initial=0) < SILENT:
                content = "constant" if sound.peak >= PEAK else "silence"
        energy = sum(float(powers[start:end].sum()) for start, end in stretches)
        loud = frames * FRAME * self._rate  # samples of speech at the recording's own rate
        facts = Facts(
            name=name,
            content=content,
            seconds=self.samples / SAMPLE_RATE,
            speech=round(frames * FRAME, 2),
            level=round(10 * math.log10(energy / frames), 1) if energy else -math.inf,
            clipped=min(1.0, sound.clipped * sound.frames / loud) if loud else 0.0,
            narrow=self._rate < NARROW or sound.above < TELEPHONE,
            cancelling=self._cancelling,
            digest=sound.digest,
        )
        samples, margin = round(FRAME * SAMPLE_RATE), round(MARGIN * SAMPLE_RATE)
        spans = np.clip(stretches * samples + np.array([-margin, margin]), 0, self.samples)
        return facts, spans


def _cut(blocks: Iterable[Wave], spans: Numbers) -> Iterator[Wave]:
    """Yield the parts of a recording that are in the spans (S, 2)."""
    position = 0
    for block in blocks:
        first = np.searchsorted(spans[:, 1], position, side="right")
        last = np.searchsorted(spans[:, 0], position + len(block))
        for start, end in spans[first:last] - position:
            yield block[max(0, start) : end]
        position += len(block)


def _size(total: int, count: int, window: int) -> int:
    """Return the length of one of ``count`` windows, which are equal within a sample."""
    return total * (window + 1) // count - total * window // count
