"""Speed perturbation: pitch and tempo, no aliases, any shape."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soxr
import torch

from idemvox.audio.speed import change_speed
from idemvox.corpus.crops import samples_before


def tone(hertz: float, samples: int) -> torch.Tensor:
    return (
        0.5
        * torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / 16_000)[None].float()
    )


@pytest.mark.parametrize("speed", [0.9, 1.1, 0.85, 1.25])
@pytest.mark.parametrize("hertz", [200.0, 3000.0, 4500.0])
def test_a_tone_is_played_faster_or_slower(speed, hertz):
    samples = 4000
    out = change_speed(tone(hertz, samples_before(samples, speed)), speed, samples)
    inside = slice(50, -50)  # the ends fade into silence
    torch.testing.assert_close(out[:, inside], tone(hertz * speed, samples)[:, inside], atol=2e-3, rtol=0)


def test_there_are_no_aliases():
    out = change_speed(tone(7800, 4400), 1.1, 4000)  # would move to 8580 Hz, which aliases to 7420
    assert out[:, 50:-50].abs().max() < 0.01


def test_noise_is_resampled_like_by_a_resampler():
    wave = np.random.default_rng(0).standard_normal(11_000).astype(np.float32)
    wave = soxr.resample(soxr.resample(wave, 16_000, 12_000), 12_000, 16_000)  # nothing near the band's edge
    expected = soxr.resample(wave, 11, 10, quality="VHQ")
    found = change_speed(torch.from_numpy(wave)[None], 1.1, 9_000)[0].numpy()
    assert np.abs(found - expected[:9_000])[100:-100].max() < 5e-3


@pytest.mark.parametrize("samples", [1, 7, 320, 1001])
def test_shapes_and_a_speed_of_1(samples):
    for speed in (0.9, 1.0, 1.1):
        wave = torch.randn(3, samples_before(samples, speed) + 5)
        assert change_speed(wave, speed, samples).shape == (3, samples)
    assert torch.equal(change_speed(wave, 1.0, samples), wave[:, :samples])
