"""Find where a recording has sound rather than silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Activity", "active"]

Powers = npt.NDArray[np.float64]

FRAME = 0.01  # seconds
LOUD = 50  # frames at most that set the loud level: half a second of them is enough
SILENT = 1e-8  # power below which it is digital silence, or noise in the last of 16 bits


def active(power: Powers) -> npt.NDArray[np.bool_]:
    """Return which frames (N,) have sound rather than silence.

    A frame is silent if it is 30 dB below the loud frames or, with background noise, less than 6 dB above the
    quiet ones. The loud frames are the loudest twentieth, at most half a second; the quiet ones are the
    quietest tenth.

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
    """Measures a recording block by block: its length without the silence at both ends.

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
        self._powers.append(np.nan_to_num(np.mean(frames**2, axis=1), nan=0.0, posinf=0.0))
        self._rest = wave[whole:]

    def seconds(self) -> float:
        """Return the time from the first sound to the last; 0 if there is none."""
        sounding = np.flatnonzero(active(np.concatenate(self._powers))) if self._powers else np.zeros(0)
        return float(sounding[-1] - sounding[0] + 1) * FRAME if len(sounding) else 0.0
