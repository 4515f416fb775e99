"""Find where a recording has sound rather than silence, and where it has speech, by its energy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from idemvox.arrays import Numbers

__all__ = ["FRAME", "Activity", "active", "speech"]

Powers = npt.NDArray[np.float64]

FRAME = 0.01  # seconds
LOUD = 50  # frames at most that set the loud level: half a second of them is enough
SILENT = 1e-8  # power below which it is digital silence, or noise in the last of 16 bits
RANGE = 1e-3  # power of the quietest sound relative to the loud frames: -30 dB

# Frames, and a ratio of powers, that distinguish speech from noise
REACH = 200  # speech pauses at least once in this time
SMOOTH = 10  # a pause has at least this length
ABOVE = 3.0  # speech is 4.8 dB above the noise in its pauses; the power of steady noise varies by less
PAUSE = 50  # the longest pause that is part of speech
SHORTEST = 10  # less sound than this, between two such pauses, is a click


def active(power: Powers) -> npt.NDArray[np.bool_]:
    """Return which frames (N,) have sound rather than silence.

    A frame is silent if it is 30 dB below the loud frames or, with background noise, less than 6 dB above the
    quiet ones. The loud frames are the loudest twentieth, at most half a second; the quiet ones are the
    quietest tenth.

    Args:
        power: (N,) mean square of each 10-ms frame.
    """
    loud = _loud(power)
    if loud < SILENT:
        return np.zeros(len(power), dtype=bool)
    quiet = np.quantile(power, 0.1)
    sounds: npt.NDArray[np.bool_] = power > max(loud * RANGE, min(4 * quiet, loud * 0.05))
    return sounds


def speech(power: Powers) -> Numbers:
    """Return (S, 2) the first frame of each stretch of speech, and the one after its last.

    Speech rises above the noise around it again and again, while the power of steady noise, of hum and of a
    tone hardly changes. So a frame has speech if it is 4.8 dB above the noise floor and at most 30 dB below
    the loud frames. The floor is the lowest power, averaged over 0.1 s, of the 2 s before the frame or of the
    2 s after it, whichever is higher: noise may stop or change between words. Pauses of up to 0.5 s are part
    of a stretch. Stretches with less than 0.1 s of sound are clicks and are left out.

    Energy alone cannot tell speech from music or barking.

    Args:
        power: (N,) variance of each 10-ms frame.
    """
    if (loud := _loud(power)) < SILENT:
        return np.zeros((0, 2), np.int64)
    power = power.astype(np.float32)  # half the memory; hours of frames are many
    smooth = ndimage.uniform_filter1d(power, SMOOTH, mode="reflect")
    before, after = (
        ndimage.minimum_filter1d(smooth, REACH, origin=origin, mode="reflect")
        for origin in (REACH // 2 - 1, -(REACH // 2))
    )
    floor = np.maximum(before, after, out=before)
    sounds = ndimage.uniform_filter1d(power, 3, mode="reflect") > np.maximum(ABOVE * floor, loud * RANGE)
    return _stretches(sounds)


def _loud(power: Powers) -> float:
    """Return the power of the loud frames: the loudest twentieth, at most half a second."""
    return float(np.quantile(power, max(0.95, 1 - LOUD / len(power)))) if len(power) else 0.0


def _stretches(sounds: npt.NDArray[np.bool_]) -> Numbers:
    """Join sounds (N,) across short pauses and leave out clicks; return first and end, (S, 2)."""
    edges = np.flatnonzero(np.diff(sounds.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return np.zeros((0, 2), np.int64)
    apart = starts[1:] - ends[:-1] > PAUSE
    stretches = np.stack([starts[np.r_[True, apart]], ends[np.r_[apart, True]]], axis=1)
    count = np.r_[0, np.cumsum(sounds)]
    kept: Numbers = stretches[count[stretches[:, 1]] - count[stretches[:, 0]] >= SHORTEST]
    return kept


class Activity:
    """Measures a recording block by block: where it has sound or speech. A constant offset changes nothing.

    Args:
        rate: sample rate in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._length = max(1, round(rate * FRAME))
        self._rest = np.zeros(0, np.float32)
        self._powers: list[Powers] = []

    def feed(self, wave: npt.NDArray[np.float32]) -> None:
        """Add the next samples, (T,). Frames with NaN or infinite samples count as silence."""
        wave = np.concatenate([self._rest, wave])
        whole = len(wave) // self._length * self._length
        frames = wave[:whole].reshape(-1, self._length).astype(np.float64)
        with np.errstate(invalid="ignore"):
            self._powers.append(np.nan_to_num(frames.var(axis=1), nan=0.0, posinf=0.0))
        self._rest = wave[whole:]

    @property
    def powers(self) -> Powers:
        """(N,) the variance of each 10-ms frame so far; an unfinished frame is left out."""
        return np.concatenate(self._powers) if self._powers else np.zeros(0)

    def seconds(self) -> float:
        """Return the time from the first sound to the last; 0 if there is none."""
        sounding = np.flatnonzero(active(self.powers))
        return float(sounding[-1] - sounding[0] + 1) * FRAME if len(sounding) else 0.0
