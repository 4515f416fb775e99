"""Front ends of other toolkits: padding changes nothing, and each filter is the documented one."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from idemvox.audio.fbank import build_front_end, slaney_filters
from idemvox.audio.frontend import FrontEndSettings
from idemvox.errors import IdemvoxError

SETTINGS = {
    "kaldi": FrontEndSettings(kind="kaldi", normalise="mean", pre_emphasis=0.97, floor=1e-7),
    "log_mel": FrontEndSettings(pre_emphasis=0.97),
    "resemblyzer": FrontEndSettings(kind="resemblyzer", window="hann", normalise="none", n_fft=400),
    "speechbrain": FrontEndSettings(kind="speechbrain", normalise="mean", n_fft=400, floor=1e-10),
}


@pytest.mark.parametrize("mels", [20, 40, 80])
def test_slaney_filters_equal_librosas(mels: int) -> None:
    theirs = librosa.filters.mel(sr=16_000, n_fft=400, n_mels=mels)
    np.testing.assert_allclose(slaney_filters(mels, 400).numpy(), theirs, atol=1e-7)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("extra", [0, 333])
def test_padding_changes_nothing(kind: str, extra: int) -> None:
    front = build_front_end(SETTINGS[kind])
    lengths = torch.tensor([4000, 1, 399, 2503, 161])
    rng = torch.Generator().manual_seed(0)
    wave = torch.full((len(lengths), 4000 + extra), 0.9)  # the audio beyond the end is loud
    for row, length in enumerate(lengths):
        wave[row, :length] = 0.02 * (row + 1) * torch.randn(int(length), generator=rng)
    features, frames = front(wave, lengths)
    assert frames is not None and torch.equal(frames, front.count(lengths))
    for row, length in enumerate(lengths):
        alone, _ = front(wave[row : row + 1, :length])
        assert alone.shape[-1] == frames[row]
        torch.testing.assert_close(features[row, :, : frames[row]], alone[0], atol=1e-4, rtol=1e-4)
        assert not features[row, :, frames[row] :].any()


@pytest.mark.parametrize(
    ("window", "theirs"), [("hamming", "hamming"), ("povey", "povey"), ("hann", "hanning")]
)
def test_the_kaldi_front_end_equals_kaldis(window: str, theirs: str) -> None:
    """Compared with Kaldi's own code, if the package kaldi-native-fbank is installed."""
    native = pytest.importorskip("kaldi_native_fbank")
    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = theirs
    options.mel_opts.num_bins = 80
    fbank = native.OnlineFbank(options)
    rng = np.random.default_rng(0)
    wave = 0.1 * np.sin(np.arange(12_345) / 9) + 0.05 * rng.standard_normal(12_345)
    fbank.accept_waveform(16_000, (wave * 2**15).tolist())
    expected = np.array([fbank.get_frame(n) for n in range(fbank.num_frames_ready)]).T
    settings = FrontEndSettings(
        kind="kaldi",
        mels=80,
        window=window,  # type: ignore[arg-type]
        pre_emphasis=0.97,
        normalise="none",
        floor=float(np.finfo(np.float32).eps),
    )
    ours, _ = build_front_end(settings)(torch.from_numpy(wave).float()[None])
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=2e-3)


def test_the_povey_window_equals_kaldis() -> None:
    with pytest.raises(IdemvoxError, match=r"frontend\.kind=kaldi"):
        FrontEndSettings(window="povey")


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(IdemvoxError, match="did you mean 'resemblyzer'"):
        FrontEndSettings(kind="resembly")  # type: ignore[arg-type]
