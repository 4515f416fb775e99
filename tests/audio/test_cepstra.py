"""Cepstra, compared with scipy and loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct
from scipy.signal import savgol_filter

from idemvox.audio.cepstra import cosines, deltas, energetic, less_sliding_mean
from idemvox.audio.frontend import FrontEndSettings, LogMel


def features(rows: int, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, frames, generator=torch.Generator().manual_seed(seed)) * 3 - 2


@pytest.mark.parametrize(("cepstra", "mels"), [(24, 40), (13, 23), (20, 20)])
def test_cepstra_are_the_cosine_transform(cepstra, mels):
    wave = 0.1 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    log_mel = LogMel(FrontEndSettings(mels=mels, normalise="none"))(wave)[0][0]
    theirs = dct(log_mel.numpy(), axis=0, type=2, norm="ortho")[:cepstra]
    np.testing.assert_allclose((cosines(cepstra, mels) @ log_mel).numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 9, 50])
@pytest.mark.parametrize("width", [1, 3])
def test_deltas_are_the_regressions_slope(frames, width):
    x = features(4, frames)
    expected = np.zeros(x.shape)
    for t in range(frames):
        for n in range(1, width + 1):
            after, before = x[:, min(t + n, frames - 1)], x[:, max(t - n, 0)]
            expected[:, t] += n * (after - before).numpy()
    expected /= 2 * sum(n * n for n in range(1, width + 1))
    np.testing.assert_allclose(deltas(x, width).numpy(), expected, atol=1e-5)
    if frames > 2 * width + 1:
        theirs = savgol_filter(x.numpy(), 2 * width + 1, polyorder=1, deriv=1, mode="nearest")
        np.testing.assert_allclose(deltas(x, width).numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 19, 20, 21, 77])
def test_the_sliding_mean_stays_inside_the_utterance(frames):
    x, window = features(3, frames), 20
    expected = np.empty(x.shape)
    for t in range(frames):
        start = min(max(t - window // 2, 0), max(frames - window, 0))
        expected[:, t] = (x[:, t] - x[:, start : start + window].mean(1)).numpy()
    np.testing.assert_allclose(less_sliding_mean(x, window).numpy(), expected, atol=1e-5)


def test_quiet_frames_are_not_speech_at_any_level():
    log_mel = features(10, 100) * 0.1
    log_mel[:, 30:60] -= 6
    expected = torch.ones(100, dtype=torch.bool)
    expected[30:60] = False
    for level in (-10.0, 0.0, 8.0):
        assert torch.equal(energetic(log_mel + level), expected)


@pytest.mark.parametrize("frames", [1, 5])
def test_if_all_frames_are_equal_all_are_speech(frames):
    assert energetic(torch.full((10, frames), -13.8155)).all()
