"""Where in a recording there is something to hear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Activity", "active"]

Powers = npt.NDArray[np.float64]

FRAME = 0.01  # seconds
LOUD = 50  # the loud frames of a long recording: half a second of them is enough to tell how loud it is
SILENT = 1e-8  # power of digital silence and of the last bit of 16


def active(power: Powers) -> npt.NDArray[np.bool_]:
    """Tell frames with sound in them from silence.

    Silence: 30 dB below the loud frames, or under 6 dB above the quiet ones where there is noise. The loud
    ones are the loudest twentieth, but half a second at most; the quiet ones the quietest tenth.

    Args:
        power: (N,) mean square of each 10-ms frame.
    """
    if not len(power):
        return np.zeros(0, dtype=bool)
    loud, quiet = np.quantile(power, (max(0.95, 1 - LOUD / len(power)), 0.1))
    if loud < SILENT:
        return np.zeros(len(power), dtype=bool)
    sounds: npt.NDArray[np.bool_] = power > max(loud * 1e-3, min(4 * quiet, loud * 0.05))
    return sounds


class Activity:
    """Hears a recording a block at a time, and knows how long it is without the silence at its ends.

    Args:
        rate: of the samples, in Hz.
    """

    def __init__(self, rate: int) -> None:
        self._length = max(1, round(rate * FRAME))
        self._rest = np.zeros(0, np.float32)
        self._powers: list[Powers] = []

    def feed(self, wave: npt.NDArray[np.float32]) -> None:
        """Hear the next samples, (T,); what is not a number counts as silence."""
        wave = np.concatenate([self._rest, wave])
        whole = len(wave) // self._length * self._length
        frames = wave[:whole].reshape(-1, self._length).astype(np.float64)
        self._powers.append(np.nan_to_num(np.mean(frames**2, axis=1), nan=0.0, posinf=0.0))
        self._rest = wave[whole:]

    def seconds(self) -> float:
        """From the first sound to the last one; 0 where there is none."""
        sounding = np.flatnonzero(active(np.concatenate(self._powers))) if self._powers else np.zeros(0)
        return float(sounding[-1] - sounding[0] + 1) * FRAME if len(sounding) else 0.0
