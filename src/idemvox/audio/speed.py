"""Speed perturbation, which changes tempo and pitch, for a batch on any device."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["change_speed"]

ZEROS = 16  # zero crossings of the interpolating sinc on either side
ROLL_OFF = 0.95  # its cut-off, as a fraction of the lower of the two Nyquist frequencies
BETA = 8.6  # of its Kaiser window, for 80 dB


def change_speed(wave: Tensor, speed: float, samples: int) -> Tensor:
    """Play (B, T) samples ``speed`` times as fast: (B, samples), with sample n taken from position n * speed.

    Tempo and pitch change together, so the result counts as another voice (as in Kaldi's recipes). Uses
    windowed-sinc interpolation; anything beyond either end counts as silence.

    Args:
        wave: at least samples * speed samples, rounded up.
        speed: rounded to the nearest fraction with a denominator up to 100.
        samples: number of samples to return.
    """
    ratio = Fraction(speed).limit_denominator(100)
    if ratio == 1:
        return wave[:, :samples]
    kernel, reach = _kernel(ratio)
    taps = kernel.to(wave)[:, None]  # (q, 1, W)
    rounds = -(-samples // ratio.denominator)
    needed = (rounds - 1) * ratio.numerator + taps.shape[2]
    padded = functional.pad(wave, (reach, max(needed - reach - wave.shape[1], 0)))
    out = functional.conv1d(padded[:, None], taps, stride=ratio.numerator)  # (B, q, rounds or more)
    return out[:, :, :rounds].transpose(1, 2).flatten(1)[:, :samples]


@lru_cache(maxsize=32)
def _kernel(ratio: Fraction) -> tuple[Tensor, int]:
    """Return (q, W) taps for the q positions in a stride of p samples, and how far they reach back."""
    cutoff = ROLL_OFF * min(1.0, float(1 / ratio))
    reach = math.ceil(ZEROS / cutoff)
    place = np.arange(ratio.denominator)[:, None] * float(ratio)  # (q, 1)
    at = np.arange(-reach, math.ceil(float(place.max())) + reach + 1) - place  # (q, W)
    window = np.i0(BETA * np.sqrt(np.clip(1 - (at / reach) ** 2, 0, None))) / np.i0(BETA)
    taps = cutoff * np.sinc(cutoff * at) * window * (np.abs(at) <= reach)
    return torch.from_numpy((taps / taps.sum(1, keepdims=True)).astype(np.float32)), reach
