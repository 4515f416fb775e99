"""Front ends, written with librosa in float64: a wave to (mels, F)."""

from __future__ import annotations

import itertools
from typing import Any

import librosa
import numpy as np
import scipy.signal
from numpy.typing import NDArray

Wave = NDArray[np.float32]
Vector = NDArray[Any]


def speechbrain_features(wave: Wave, mels: int = 20) -> Vector:
    """Decibels above the recording's loudest minus 80, in filters as wide to the right as to the left."""
    window = scipy.signal.get_window("hamming", 400)
    spectrum = librosa.stft(wave.astype(np.float64), n_fft=400, hop_length=160, window=window)
    hz = librosa.mel_frequencies(mels + 2, fmin=0, fmax=8000, htk=True)
    filters = [
        np.maximum(0, 1 - np.abs(np.linspace(0, 8000, 201) - middle) / (middle - left))
        for left, middle in itertools.pairwise(hz[:-1])
    ]
    decibels = 10 * np.log10(np.maximum(np.array(filters) @ np.abs(spectrum) ** 2, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    return decibels - decibels.mean(1, keepdims=True)


def torchaudio_features(
    wave: Wave, window: str, mels: int = 20, pre_emphasis: float = 0.0, floor: float = 1e-6
) -> Vector:
    """torchaudio's MelSpectrogram of 25 ms in 512 samples, its logarithm, InstanceNorm1d."""
    samples = wave.astype(np.float64)
    samples = samples - pre_emphasis * np.pad(samples, (1, 0), mode="reflect")[:-1]
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=16_000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        window=scipy.signal.get_window(window, 400),
        pad_mode="reflect",
        n_mels=mels,
        htk=True,
        norm=None,
    )
    log = np.log(power + floor)
    return (log - log.mean(1, keepdims=True)) / np.sqrt(log.var(1, keepdims=True) + 1e-5)


def kaldi_features(wave: Wave, mels: int = 24) -> Vector:
    """Kaldi's fbank frame by frame, without dither, Hamming window, minus its mean."""
    samples = np.pad(wave.astype(np.float64) * 2**15, (0, max(0, 400 - len(wave))))
    corners = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700), mels + 2)
    bins = 1127 * np.log(1 + np.arange(256) * 31.25 / 700)
    window = scipy.signal.windows.hamming(400, sym=True)
    rows = []
    for start in range(0, len(samples) - 399, 160):
        frame = samples[start : start + 400] - samples[start : start + 400].mean()
        frame = window * (frame - 0.97 * np.r_[frame[0], frame[:-1]])
        power = np.abs(np.fft.rfft(frame, 512)[:256]) ** 2
        row = []
        for left, middle, right in zip(corners[:-2], corners[1:-1], corners[2:], strict=True):
            rising, falling = (bins - left) / (middle - left), (right - bins) / (right - middle)
            row.append(power @ np.maximum(0, np.minimum(rising, falling)))
        rows.append(np.log(np.maximum(row, np.finfo(np.float32).eps)))
    features = np.array(rows).T
    return features - features.mean(1, keepdims=True)
