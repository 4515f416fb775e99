from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.audio.frontend import FrontEndSettings, LogMel, mel_filters, reflect_index
from idemvox.errors import IdemvoxError


def oracle(wave: np.ndarray, o: FrontEndSettings) -> np.ndarray:
    """(T,) -> (mels, F), frame by frame with numpy's FFT."""
    turns = 2 * np.pi * np.arange(o.win) / o.win
    a = 0.54 if o.window == "hamming" else 0.5
    window = np.zeros(o.n_fft)
    left = (o.n_fft - o.win) // 2
    window[left : left + o.win] = a - (1 - a) * np.cos(turns)
    padded = np.pad(wave.astype(np.float64), o.n_fft // 2, mode="reflect")
    frames = [padded[s : s + o.n_fft] for s in range(0, len(wave) + 1, o.hop)]
    power = np.array([np.abs(np.fft.rfft(frame * window)) ** 2 for frame in frames]).T
    filters = librosa.filters.mel(sr=16_000, n_fft=o.n_fft, n_mels=o.mels, htk=True, norm=None)
    features = np.log(filters @ power + o.floor)
    if o.normalise != "none":
        features = features - features.mean(1, keepdims=True)
    if o.normalise == "mean_var":
        features = features / np.sqrt(features.var(1, keepdims=True) + 1e-5)
    return features


def speechlike(samples: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    envelope = 0.1 + np.abs(np.sin(np.arange(samples) / 900.0 + seed))
    return torch.from_numpy(rng.standard_normal(samples) * envelope * 0.1).float()


@pytest.mark.parametrize("mels", [23, 40, 80])
def test_filters_equal_librosas(mels: int) -> None:
    theirs = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=mels, htk=True, norm=None)
    np.testing.assert_allclose(mel_filters(mels, 512).numpy(), theirs, atol=1e-5)


@pytest.mark.parametrize("normalise", ["mean_var", "mean", "none"])
@pytest.mark.parametrize("window", ["hamming", "hann"])
@pytest.mark.parametrize("samples", [257, 1600, 4001])
def test_features_match_the_formula(samples: int, window: str, normalise: str) -> None:
    o = FrontEndSettings(mels=40, window=window, normalise=normalise)  # type: ignore[arg-type]
    wave = speechlike(samples)
    features, frames = LogMel(o)(wave[None])
    assert frames is None
    assert features.shape == (1, 40, samples // 160 + 1)
    np.testing.assert_allclose(features[0].numpy(), oracle(wave.numpy(), o), atol=2e-3, rtol=1e-3)


def test_normalisation_is_instance_norm() -> None:
    wave = torch.stack([speechlike(8000, 1), speechlike(8000, 2)])
    raw, _ = LogMel(FrontEndSettings(normalise="none"))(wave)
    features, _ = LogMel(FrontEndSettings())(wave)
    torch.testing.assert_close(features, torch.nn.InstanceNorm1d(40)(raw), atol=1e-4, rtol=1e-4)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=4),
    st.integers(0, 700),
    st.sampled_from(["mean_var", "mean", "none"]),
)
def test_padding_changes_nothing(lengths: list[int], extra: int, normalise: str) -> None:
    front = LogMel(FrontEndSettings(normalise=normalise))  # type: ignore[arg-type]
    wave = torch.full((len(lengths), max(lengths) + extra), 7.0)  # the audio beyond the end is loud
    for row, length in enumerate(lengths):
        wave[row, :length] = speechlike(length, row)
    features, frames = front(wave, torch.tensor(lengths))
    assert frames is not None
    for row, length in enumerate(lengths):
        alone, _ = front(wave[row : row + 1, :length])
        valid = int(frames[row])
        assert valid == alone.shape[-1] == length // 160 + 1
        torch.testing.assert_close(features[row, :, :valid], alone[0], atol=2e-3, rtol=1e-4)
        assert not features[row, :, valid:].any()


def test_silence_is_zero_not_nan() -> None:
    features, _ = LogMel()(torch.zeros(1, 4000))
    torch.testing.assert_close(features, torch.zeros_like(features), atol=1e-2, rtol=0)


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(0, 20))
def test_reflection_equals_numpys(length: int, pad: int) -> None:
    ours = reflect_index(-pad, length + pad, torch.tensor([length]))[0]
    np.testing.assert_array_equal(ours.numpy(), np.pad(np.arange(length), pad, mode="reflect"))


@pytest.mark.parametrize("lengths", [[0, 10], [5, 11]])
def test_impossible_lengths_are_refused(lengths: list[int]) -> None:
    with pytest.raises(IdemvoxError, match=r"within 1 \.\. 10"):
        LogMel()(torch.zeros(2, 10), torch.tensor(lengths))


def test_empty_utterance_is_refused() -> None:
    with pytest.raises(IdemvoxError, match="without samples"):
        LogMel()(torch.zeros(2, 0))


def test_settings_are_checked() -> None:
    with pytest.raises(IdemvoxError, match="did you mean 'hamming'"):
        FrontEndSettings(window="haming")  # type: ignore[arg-type]
    with pytest.raises(IdemvoxError, match="normalisation"):
        FrontEndSettings(normalise="var")  # type: ignore[arg-type]
    with pytest.raises(IdemvoxError, match="impossible"):
        FrontEndSettings(win=600)


def test_constants_are_not_saved_with_the_weights() -> None:
    assert not LogMel().state_dict()
