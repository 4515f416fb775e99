"""A telephone: its band and its coding; level and timing are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from idemvox.audio.telephone import mu_law, through_telephone


def tone(hertz: float, samples: int = 16_000, level: float = 0.1) -> Tensor:
    return level * torch.sin(2 * math.pi * hertz * torch.arange(samples) / 16_000)[None]


@pytest.mark.parametrize(
    ("hertz", "low", "high"),
    [
        (300, -3.5, -2.5),
        (1000, -0.1, 0.1),
        (3400, -3.5, -2.5),
        (100, -200, -40),
        (3900, -20, -6),
        (5000, -200, -40),
    ],
)
def test_only_the_telephone_band_passes(hertz, low, high):
    """Measured beside a tone in the middle of the band, which determines the level."""
    wave = tone(1500) + tone(hertz)
    out = through_telephone(wave)
    spectrum = torch.fft.rfft(torch.stack([wave[0], out[0]])).abs()  # 1 Hz apart
    passed = 20 * torch.log10(spectrum[1] / spectrum[0])
    assert low < float(passed[hertz] - passed[1500]) < high


@pytest.mark.parametrize("samples", [16_000, 15_999, 801])
def test_level_shape_and_timing_are_kept(samples):
    wave = torch.cat([tone(700, samples, level) for level in (0.001, 0.1, 0.9)])
    out = through_telephone(wave)
    assert out.shape == wave.shape
    torch.testing.assert_close(out.square().mean(1), wave.square().mean(1), rtol=1e-4, atol=0)
    assert torch.nn.functional.cosine_similarity(out, wave).min() > 0.99  # no delay: it is the same tone


def test_coding_noise_is_that_of_mu_law():
    """About 38 dB at every speech-like level."""
    wave = 0.05 * torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0))
    for gain in (1.0, 0.2):
        noise = mu_law(gain * wave) - gain * wave
        snr = 10 * math.log10(float((gain * wave).square().mean() / noise.square().mean()))
        assert 34 < snr < 40
    levels = mu_law(torch.linspace(-1, 1, 100_001)).unique()
    assert len(levels) == 255 and levels.abs().max() == 1
    assert float(mu_law(torch.tensor([3.0]))) == 1  # clipped


def test_rows_do_not_depend_on_each_other_and_silence_stays_finite():
    wave = torch.cat([tone(400), tone(2000, level=0.5), torch.zeros(1, 16_000)])
    out = through_telephone(wave)
    for row in range(3):
        torch.testing.assert_close(through_telephone(wave[row : row + 1])[0], out[row], atol=1e-6, rtol=0)
    assert out[2].abs().max() == 0 and np.isfinite(out.numpy()).all()
