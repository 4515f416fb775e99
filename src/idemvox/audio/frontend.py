"""Log-mel front end: 16-kHz waveforms to normalised features, the same in a batch as alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from idemvox.audio.read import SAMPLE_RATE
from idemvox.errors import AudioError, RecipeError, unknown_name

__all__ = [
    "FrontEndSettings",
    "LogMel",
    "MelFeatures",
    "htk_corners",
    "mel_filters",
    "reflect_index",
    "valid_mask",
]

Kind = Literal["log_mel", "kaldi", "resemblyzer", "speechbrain"]
Window = Literal["hamming", "hann", "povey"]
Normalise = Literal["mean_var", "mean", "none"]

EPSILON = 1e-5  # added to the variance, as nn.InstanceNorm1d does


@dataclass(frozen=True, slots=True)
class FrontEndSettings:
    """Settings of the front end; the defaults are those of sslsv.

    Published systems differ: 40 or 80 mels, a Hamming or a Hann window, variance normalised or not. Those of
    another ``kind`` are for imported weights and are described in :mod:`idemvox.audio.fbank`.
    """

    mels: int = 40
    window: Window = "hamming"
    normalise: Normalise = "mean_var"
    """Per mel bin over the valid frames of one utterance: ``mean_var`` is InstanceNorm1d, ``mean`` is CMN."""
    n_fft: int = 512
    win: int = 400
    """Window length in samples (25 ms)."""
    hop: int = 160
    """Samples between frames (10 ms)."""
    floor: float = 1e-6
    """Added to the mel power before the logarithm."""
    kind: Kind = "log_mel"
    """``log_mel`` is :class:`LogMel`."""
    pre_emphasis: float = 0.0
    """Share of the previous sample that is subtracted from each; usually 0.97 or nothing."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise unknown_name("kind of front end", self.kind, get_args(Kind))
        if self.window not in get_args(Window):
            raise unknown_name("window", self.window, get_args(Window))
        if self.window == "povey" and self.kind != "kaldi":
            raise RecipeError("frontend.window=povey is Kaldi's: use it with frontend.kind=kaldi")
        if self.normalise not in get_args(Normalise):
            raise unknown_name("normalisation", self.normalise, get_args(Normalise))
        if self.mels < 1 or self.hop < 1 or self.floor <= 0 or not 1 <= self.win <= self.n_fft:
            raise RecipeError(
                f"impossible front end {self}: use mels >= 1, hop >= 1, floor > 0 and 1 <= win <= n_fft"
            )
        if not 0 <= self.pre_emphasis < 1:
            raise RecipeError(f"frontend.pre_emphasis={self.pre_emphasis} must be at least 0 and below 1")


def htk_corners(mels: int, low: float, high: float) -> Tensor:
    """(mels + 2,) frequencies in Hz, equally spaced on HTK's mel scale, ``2595 log10(1 + f / 700)``."""
    bottom, top = (2595.0 * math.log10(1.0 + f / 700.0) for f in (low, high))
    return 700.0 * (10.0 ** (torch.linspace(bottom, top, mels + 2, dtype=torch.float64) / 2595.0) - 1.0)


def mel_filters(mels: int, n_fft: int) -> Tensor:
    """Triangular HTK mel filters from 0 to 8 kHz, peak 1, for a power spectrum at 16 kHz.

    There is no area normalisation, like torchaudio's default.

    Returns:
        (mels, n_fft // 2 + 1) float32, equal to ``librosa.filters.mel(htk=True, norm=None)``.
    """
    corners = htk_corners(mels, 0.0, SAMPLE_RATE / 2)
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)
    distance = bins - corners[:, None]  # (mels + 2, bins)
    step = corners.diff()[:, None]
    rising, falling = distance[:-2] / step[:-1], -distance[2:] / step[1:]
    return torch.minimum(rising, falling).clamp(min=0.0).float()


def reflect_index(start: int, stop: int, lengths: Tensor) -> Tensor:
    """Indices for positions ``start .. stop - 1`` when each row is mirrored at its own two ends.

    Mirrors as often as needed, so a row of at least one item can be padded by any amount.

    Args:
        start: first position, negative to the left of the row.
        stop: one past the last position.
        lengths: (B,) number of valid items in each row, at least 1.

    Returns:
        (B, stop - start) indices in ``[0, length)``.

    >>> reflect_index(-2, 6, torch.tensor([4])).tolist()
    [[2, 1, 0, 1, 2, 3, 2, 1]]
    """
    last = (lengths - 1)[:, None]  # (B, 1)
    position = torch.arange(start, stop, device=lengths.device)[None, :]
    folded = torch.remainder(position, (2 * last).clamp(min=1))
    return torch.minimum(folded, 2 * last - folded).clamp(min=0)


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths -> (B, size) booleans, true for the valid items of each row."""
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def _check(wave: Tensor, lengths: Tensor | None) -> None:
    """Raise an :class:`AudioError` for an empty utterance, or a length beyond the end."""
    if wave.shape[-1] == 0:
        raise AudioError("an utterance without samples has no features: leave out empty recordings")
    if lengths is None:
        return
    shortest, longest = (int(edge) for edge in lengths.aminmax())
    if shortest < 1 or longest > wave.shape[-1]:
        raise AudioError(
            f"lengths range from {shortest} to {longest} samples, but each must be within "
            f"1 .. {wave.shape[-1]}: leave out empty recordings"
        )


class MelFeatures(nn.Module):
    """A front end: mel features of each frame, normalised over the utterance; padding changes nothing.

    Subclasses implement :meth:`compute` and, where it differs, :meth:`count`.

    Args:
        settings: of the front end.
        filters: (mels, n_fft // 2 + 1) mel filters.
    """

    window: Tensor
    filters: Tensor

    basis: Tensor | None
    """(2 K, 1, win) the windowed Fourier transform: K real parts, then K imaginary ones, with K of
    ``n_fft // 2 + 1``; only after :meth:`for_export`."""

    tail: int = 0
    """Frames whose centres lie beyond the utterance."""

    def __init__(self, settings: FrontEndSettings, filters: Tensor) -> None:
        super().__init__()
        self.settings = settings
        make = torch.hamming_window if settings.window == "hamming" else torch.hann_window
        self.register_buffer("window", make(settings.win), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("basis", None, persistent=False)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples, (B,) valid ones or ``None`` -> (B, mels, F), not normalised."""
        raise NotImplementedError

    def count(self, samples: Tensor) -> Tensor:
        """Number of frames of utterances of so many samples."""
        return torch.div(samples, self.settings.hop, rounding_mode="floor") + 1

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute the features of a batch.

        Args:
            wave: (B, T) float samples in [-1, 1] at 16 kHz.
            lengths: (B,) number of valid samples in each row; ``None`` means all T and is faster.

        Returns:
            (B, mels, F) features, zero past the valid frames; and (B,) the number of valid frames in each
            row, or ``None`` if ``lengths`` is ``None``.

        Raises:
            AudioError: for an empty utterance, or a length beyond T.
        """
        if self.basis is None:
            _check(wave, lengths)
        if lengths is None:
            return self._normalise(self.compute(wave, None)), None
        lengths = lengths.to(wave.device)
        frames = self.count(lengths)
        return self._normalise(self.compute(wave, lengths), frames), frames

    def for_export(self, start: int | None = None) -> None:
        """Compute spectra as matrix products from now on, and check no lengths: operations that ONNX has.

        Args:
            start: where the window begins in a transform; ``None``: it lies in the middle.
        """
        o = self.settings
        first = (o.n_fft - o.win) // 2 if start is None else start
        time = torch.arange(first, first + o.win, dtype=torch.float64)
        turns = torch.arange(o.n_fft // 2 + 1, dtype=torch.float64)[:, None] * time / o.n_fft
        waves = torch.cat([torch.cos(2 * math.pi * turns), -torch.sin(2 * math.pi * turns)])
        self.basis = (waves * self.window.double()).to(self.window.dtype)[:, None]

    def mel_power(self, wave: Tensor) -> Tensor:
        """(B, T) samples, padded at both ends already -> (B, mels, F) power in each mel filter."""
        o = self.settings
        if self.basis is not None:
            edge = (o.n_fft - o.win) // 2
            inner = wave[:, None, edge : wave.shape[1] - (o.n_fft - o.win - edge)]
            both = nn.functional.conv1d(inner, self.basis, stride=o.hop).square()  # (B, 2 K, F)
            return self.filters @ (both[:, : o.n_fft // 2 + 1] + both[:, o.n_fft // 2 + 1 :])
        spectrum = torch.stft(
            wave, o.n_fft, o.hop, o.win, self.window, center=False, return_complex=True
        )  # (B, n_fft // 2 + 1, F)
        real, imaginary = torch.view_as_real(spectrum).unbind(-1)
        return self.filters @ torch.addcmul(real.square(), imaginary, imaginary)

    def _normalise(self, features: Tensor, frames: Tensor | None = None) -> Tensor:
        """Normalise each row and bin over its valid frames, with biased variance; zero past them."""
        how = self.settings.normalise
        if frames is None:
            if how == "none":
                return features
            features = features - features.mean(-1, keepdim=True)
            if how == "mean":
                return features
            return features * (features.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
        mask = valid_mask(frames, features.shape[-1])[:, None, :]  # (B, 1, F)
        count = frames[:, None, None].to(features.dtype)
        features = features.masked_fill(~mask, 0.0)
        if how == "none":
            return features
        features = (features - features.sum(-1, keepdim=True) / count).masked_fill(~mask, 0.0)
        if how == "mean":
            return features
        return features * (features.square().sum(-1, keepdim=True) / count + EPSILON).rsqrt()


class LogMel(MelFeatures):
    """Normalised log-mel spectrogram.

    Frames are centred: frame ``f`` is the 25 ms around sample ``160 f``. An utterance of T samples has
    ``T // 160 + 1`` frames and is mirrored at its own two ends. The window is periodic and centred in the
    transform, and the spectrum is power, as in ``torchaudio.transforms.MelSpectrogram``.

    >>> features, frames = LogMel(FrontEndSettings(mels=40))(torch.randn(2, 16000))
    >>> tuple(features.shape), frames
    ((2, 40, 101), None)
    """

    def __init__(self, settings: FrontEndSettings | None = None) -> None:
        settings = settings or FrontEndSettings()
        super().__init__(settings, mel_filters(settings.mels, settings.n_fft))

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples, (B,) valid ones or ``None`` -> (B, mels, T // hop + 1) log-mel."""
        samples, edge = wave.shape[-1], self.settings.n_fft // 2
        if self.settings.pre_emphasis:
            wave = self._emphasise(wave, lengths)
        if lengths is None and samples > edge:
            wave = nn.functional.pad(wave, (edge, edge), mode="reflect")
        else:
            valid = wave.new_full(wave.shape[:1], samples, dtype=torch.long) if lengths is None else lengths
            wave = wave.gather(1, reflect_index(-edge, samples + edge, valid))
        return torch.log(self.mel_power(wave) + self.settings.floor)

    def _emphasise(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """Subtract a share of the previous sample; the one before the first is the second, mirrored."""
        second = wave[:, min(1, wave.shape[-1] - 1)]
        if lengths is not None:
            second = torch.where(lengths > 1, second, wave[:, 0])
        previous = torch.cat([second[:, None], wave[:, :-1]], dim=1)
        return wave - self.settings.pre_emphasis * previous
