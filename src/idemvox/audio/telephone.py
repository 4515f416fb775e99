"""A telephone: 300 to 3400 Hz and 8-bit mu-law at 8 kHz, for a batch on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from idemvox.audio.read import SAMPLE_RATE

__all__ = ["mu_law", "through_telephone"]

LEVEL = 0.05  # RMS, 26 dB below full scale, at which speech enters a telephone network (ITU-T P.56)
BAND = (300.0, 3400.0)  # Hz, where the response is 3 dB down
STEEP = 16.0  # twice the order of the Butterworth response at either edge
MU = 255.0


def through_telephone(wave: Tensor) -> Tensor:
    """Return (B, T) samples at 16 kHz as they sound over a telephone: same shape, same RMS, no delay.

    Applies a zero-phase band-pass, then mu-law with a sign and 7 bits at 8 kHz. The law is that of ITU-T
    G.711 without its piecewise approximation, at the level that telephone networks are specified for.
    """
    samples = wave.shape[1]
    half = math.ceil(samples / 2)
    spectrum = torch.fft.rfft(wave, 2 * half)[:, : half // 2 + 1]  # up to 4 kHz
    hertz = torch.arange(half // 2 + 1, device=wave.device) * (SAMPLE_RATE / (2 * half))
    low = (BAND[0] / hertz.clamp_min(1e-3)) ** STEEP
    high = (hertz / BAND[1]) ** STEEP
    narrow = torch.fft.irfft(spectrum * ((1 + low) * (1 + high)).rsqrt(), half) / 2  # (B, T / 2) at 8 kHz
    gain = LEVEL / _rms(narrow).clamp_min(1e-9)
    coded = mu_law(narrow * gain)
    back = torch.fft.rfft(coded)
    wide = torch.fft.irfft(back, 2 * half)[:, :samples] * 2
    heard: Tensor = wide * (_rms(wave) / _rms(wide).clamp_min(1e-9))
    return heard


def mu_law(wave: Tensor) -> Tensor:
    """Round samples to 0 or one of 127 levels with a sign; quieter levels are closer together (mu = 255)."""
    bent = torch.log1p(MU * wave.abs().clamp_max(1)) / math.log1p(MU)
    level = (bent * 127).round() / 127
    return wave.sign() * torch.expm1(level * math.log1p(MU)) / MU


def _rms(wave: Tensor) -> Tensor:
    rms: Tensor = wave.square().mean(1, keepdim=True).sqrt()
    return rms
