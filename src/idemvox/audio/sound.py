"""Measure samples: clipping, telephone bandwidth, and a hash to find equal audio."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from idemvox.arrays import Wave
from idemvox.audio.read import to_pcm

__all__ = ["CLIPPED", "LOUDEST", "TELEPHONE", "Listener", "Sound"]

LOUDEST = 8.0  # float samples with a higher peak were not scaled to [-1, 1]
CLIPPED = 5e-4  # share of samples in flat tops; unclipped speech has below 1e-4 at any level
TELEPHONE = -32.0  # dB
# No file of 16-kHz speech was below -16 dB, or below -26 dB when low-passed by 12 dB an octave. No 8-kHz call
# was above -45 dB when resampled well; 1 in 20 was above -33 dB when resampled with a short filter.

BELOW = (2400, 3400)  # Hz: a band that telephones transmit
BANDS = range(4400, 7601, 400)  # Hz: edges of bands that they do not


@dataclass(frozen=True, slots=True)
class Sound:
    """Measurements of one utterance's samples, channels averaged; thresholds are applied later.

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
