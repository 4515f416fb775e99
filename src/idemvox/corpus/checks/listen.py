"""Checks of samples: clipping, telephone bandwidth, and a hash to find duplicates."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from idemvox.arrays import Wave
from idemvox.audio.read import to_pcm
from idemvox.corpus.checks.scan import Facts, examine

__all__ = ["WHOLE", "Heard", "Sound", "listen", "reviver"]

Window = tuple[float, float]  # start and length of an utterance in its file, in seconds

WHOLE: Window = (0.0, math.inf)

BELOW = (2400, 3400)  # Hz: a band that telephones transmit
BANDS = range(4400, 7601, 400)  # Hz: edges of bands that they do not


@dataclass(frozen=True, slots=True)
class Sound:
    """Measurements of one utterance's samples, channels averaged; like :class:`Facts`, without thresholds.

    Attributes:
        frames: number of samples.
        peak: highest absolute value, full scale at 1; NaN if a sample is NaN or infinite.
        clipped: share of samples in flat tops.
        above: power above 4.4 kHz in dB; see :class:`Listener`.
        digest: BLAKE2b hash of the 16-bit samples; 0 for no samples.
    """

    frames: int = 0
    peak: float = 0.0
    clipped: float = 0.0
    above: float = math.nan
    digest: int = 0


@dataclass(frozen=True, slots=True)
class Heard(Facts):
    """Facts about a file, with measurements of the utterances in it.

    Attributes:
        windows: start and length of each utterance.
        sounds: the measurements in each window.
    """

    windows: tuple[Window, ...] = ()
    sounds: tuple[Sound, ...] = ()


class Listener:
    """Measures one utterance, block by block.

    *Flat tops* are runs of three or more 16-bit samples at the highest or lowest value of the utterance, so
    clipping is also found if the level was changed later. Lossy coding after clipping rounds the tops, so
    less of it is found.

    ``above`` is the power per Hz of the strongest 400-Hz band from 4.4 to 7.6 kHz, relative to 2.4 to 3.4 kHz
    and averaged over the utterance. Telephone audio falls steeply between the two, a dull voice slowly.
    Rounding noise can hide the fall in quiet files. NaN for rates below 12 kHz and utterances below 64 ms.
    """

    def __init__(self, rate: int) -> None:
        self.frames = 0
        self._peak = 0.0
        self._tops = {1: (-1, 0), -1: (-1, 0)}  # sign -> highest value so far, samples in its flat tops
        self._hash = hashlib.blake2b(digest_size=8)
        self._rate = rate
        self._length = 2 ** round(math.log2(max(rate, 32) / 16))  # about 64 ms
        self._window = np.hanning(self._length).astype(np.float32)
        self._power = np.zeros(self._length // 2 + 1)

    def feed(self, wave: Wave) -> None:
        """Measure the next samples, (T,)."""
        if not len(wave):
            return
        self.frames += len(wave)
        self._peak = float(np.maximum(self._peak, np.abs(wave).max()))
        if not math.isfinite(self._peak):
            return
        pcm = to_pcm(wave)
        self._hash.update(pcm.tobytes() if sys.byteorder == "little" else pcm.byteswap().tobytes())
        for sign, (top, count) in self._tops.items():
            new = sign * int(pcm.max() if sign > 0 else pcm.min())
            if new >= max(top, 1):
                self._tops[sign] = new, _in_runs(pcm == sign * new) + (count if new == top else 0)
        whole = len(wave) // self._length * self._length
        frames = wave[:whole].reshape(-1, self._length) * self._window  # (N, length)
        self._power += np.square(np.abs(np.fft.rfft(frames))).sum(axis=0)

    def sound(self) -> Sound:
        """Return the measurements so far."""
        if not math.isfinite(self._peak):
            return Sound(self.frames, math.nan)
        flat = sum(count for _, count in self._tops.values()) / max(self.frames, 1)
        digest = int.from_bytes(self._hash.digest(), "little") if self.frames else 0
        return Sound(self.frames, self._peak, round(flat, 6), self._above(), digest)

    def _above(self) -> float:
        if self._rate < 12_000:
            return math.nan
        hertz = np.arange(len(self._power)) * self._rate / self._length
        below = self._power[(hertz >= BELOW[0]) & (hertz < BELOW[1])].mean()
        if not below > 0:
            return math.nan
        edges = [edge for edge in BANDS if edge <= 0.47 * self._rate]  # above is the resampler's filter
        bands = [self._power[(hertz >= a) & (hertz < b)].mean() for a, b in pairwise(edges)]
        return round(10 * math.log10(max(max(bands) / below, 1e-20)), 1)


def _in_runs(at: npt.NDArray[np.bool_]) -> int:
    """Return the number of true values in runs of three or more."""
    middle = at[:-2] & at[1:-1] & at[2:]
    if not middle.any():
        return 0
    run = np.zeros(len(at), dtype=bool)
    for shift in range(3):
        run[shift : len(at) - 2 + shift] |= middle
    return int(run.sum())


class _Windows:
    """Passes each block to the listeners of the windows it overlaps; only those are in memory."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._waiting = sorted(range(len(windows)), key=lambda i: -windows[i][0])  # last first
        self._open: dict[int, Listener] = {}
        self._position = 0
        self._sounds = [Sound()] * len(windows)

    def hear(self, wave: Wave, rate: int) -> None:
        end = self._position + len(wave)
        while self._waiting and round(self._windows[self._waiting[-1]][0] * rate) < end:
            self._open[self._waiting.pop()] = Listener(rate)
        for index, listener in list(self._open.items()):
            start, seconds = self._windows[index]
            first = round(start * rate) - self._position
            last = round((start + seconds) * rate) - self._position if seconds < math.inf else len(wave)
            listener.feed(wave[max(0, first) : last])
            if last < len(wave):
                self._sounds[index] = self._open.pop(index).sound()
        self._position = end

    def sounds(self) -> tuple[Sound, ...]:
        for index, listener in self._open.items():
            self._sounds[index] = listener.sound()
        return tuple(self._sounds)


def listen(path: Path, windows: Sequence[Window] = (WHOLE,), stop: threading.Event | None = None) -> Heard:
    """Decode a file once and measure each of its windows; like :func:`examine` it raises no error."""
    parts = _Windows(windows)
    facts = examine(path, stop, parts.hear)
    return _heard(facts, tuple(windows), parts.sounds())


def _heard(facts: Facts, windows: tuple[Window, ...], sounds: tuple[Sound, ...]) -> Heard:
    known = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return Heard(**known, windows=windows, sounds=sounds)


def reviver(windows_of: Mapping[str, Sequence[Window]]) -> Callable[[str, list[Any]], Heard]:
    """Return a function from a journal's fields to a :class:`Heard`; it refuses changed windows."""

    def revive(path: str, known: list[Any]) -> Heard:
        *facts, windows, sounds = known
        if [tuple(window) for window in windows] != list(windows_of.get(os.fspath(path), (WHOLE,))):
            raise ValueError("other windows")
        return _heard(Facts(*facts), tuple(map(tuple, windows)), tuple(Sound(*sound) for sound in sounds))

    return revive
