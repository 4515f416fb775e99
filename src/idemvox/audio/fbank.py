"""Front ends of other toolkits, for their weights: the same features as their own code computes.

``build_front_end`` chooses by :attr:`FrontEndSettings.kind`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from idemvox.audio.frontend import FrontEndSettings, LogMel, MelFeatures, htk_corners, valid_mask
from idemvox.audio.read import SAMPLE_RATE

__all__ = [
    "KaldiFbank",
    "LevelledMel",
    "SpeechBrainFbank",
    "build_front_end",
    "isosceles_filters",
    "kaldi_filters",
    "slaney_filters",
]

LEVEL = -30.0
"""Root mean square, in dB below full scale, that :class:`LevelledMel` raises quieter recordings to."""

LOWEST = 20.0
"""Lowest frequency of Kaldi's mel filters, in Hz."""

RANGE = 80.0
"""Decibels below the loudest value of a recording at which :class:`SpeechBrainFbank` cuts off."""

_BREAK, _STEP, _LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27
"""Slaney's mel scale: 200/3 Hz per mel up to 1 kHz, then 27 mels for a factor of 6.4."""


def slaney_filters(mels: int, n_fft: int) -> Tensor:
    """Triangular mel filters from 0 to 8 kHz on Slaney's scale, each of area 1 (in Hz).

    Returns:
        (mels, n_fft // 2 + 1) float32, equal to ``librosa.filters.mel(sr=16000, ...)`` with its defaults.
    """
    top = _BREAK / _STEP + math.log(SAMPLE_RATE / 2 / _BREAK) / _LOG_STEP
    mel = torch.linspace(0.0, top, mels + 2, dtype=torch.float64)
    beyond = _BREAK * torch.exp(_LOG_STEP * (mel - _BREAK / _STEP))
    corners = torch.where(mel < _BREAK / _STEP, mel * _STEP, beyond)
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)
    distance, step = bins - corners[:, None], corners.diff()[:, None]
    triangles = torch.minimum(distance[:-2] / step[:-1], -distance[2:] / step[1:]).clamp(min=0.0)
    return (triangles * (2.0 / (corners[2:] - corners[:-2]))[:, None]).float()


def isosceles_filters(mels: int, n_fft: int) -> Tensor:
    """Mel filters from 0 to 8 kHz as SpeechBrain draws them, each as wide above its centre as below it.

    The mel scale is HTK's, the peaks are 1.

    Returns:
        (mels, n_fft // 2 + 1) float32.
    """
    corners = htk_corners(mels, 0.0, SAMPLE_RATE / 2)
    bins = torch.linspace(0.0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64)
    distance = (bins - corners[1:-1, None]).abs()
    return (1.0 - distance / corners.diff()[:-1, None]).clamp(min=0.0).float()


def kaldi_filters(mels: int, n_fft: int) -> Tensor:
    """Kaldi's mel filters from 20 Hz to 8 kHz: triangles on the mel scale, not in Hz.

    The bin of the Nyquist frequency is left out.

    Returns:
        (mels, n_fft // 2 + 1) float32.
    """
    bottom, top = (math.log(1.0 + f / 700.0) for f in (LOWEST, SAMPLE_RATE / 2))
    corners = torch.linspace(bottom, top, mels + 2, dtype=torch.float64)[:, None]
    bins = torch.log1p(torch.linspace(0.0, SAMPLE_RATE / 2, n_fft // 2 + 1, dtype=torch.float64) / 700.0)
    step = corners[1] - corners[0]
    triangles = torch.minimum(bins - corners[:-2], corners[2:] - bins).clamp(min=0.0) / step
    triangles[:, -1] = 0.0
    return triangles.float()


class KaldiFbank(MelFeatures):
    """Kaldi's ``fbank`` without dither and energy, of samples on the scale of 16 bits.

    Only whole windows count: frame ``f`` is the 25 ms from sample ``160 f`` on, and an utterance of T samples
    has ``(T - 400) // 160 + 1`` frames. Silence fills the only frame of a shorter one. The mean is subtracted
    from each frame, then the share ``pre_emphasis`` of each previous sample; mel power below ``floor`` counts
    as ``floor``. The window is symmetric; ``povey`` is Hann's to the power of 0.85.
    """

    def __init__(self, settings: FrontEndSettings) -> None:
        super().__init__(settings, kaldi_filters(settings.mels, settings.n_fft))
        make = torch.hamming_window if settings.window == "hamming" else torch.hann_window
        window = make(settings.win, periodic=False)
        self.window = window.pow(0.85) if settings.window == "povey" else window

    def for_export(self, start: int | None = None) -> None:
        """Compute spectra as matrix products from now on; a window begins where its transform begins."""
        super().for_export(start=0)
        if self.basis is not None:
            self.basis = self.basis.squeeze(1).T.contiguous()  # (win, 2 K)

    def count(self, samples: Tensor) -> Tensor:
        """Number of frames of utterances of so many samples."""
        o = self.settings
        return (torch.div(samples - o.win, o.hop, rounding_mode="floor") + 1).clamp(min=1)

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples, (B,) valid ones or ``None`` -> (B, mels, F) log-mel."""
        o, samples = self.settings, wave.shape[-1]
        if lengths is not None:
            wave = wave.masked_fill(~valid_mask(lengths, samples), 0.0)
        if samples < o.win:
            wave = nn.functional.pad(wave, (0, o.win - samples))
        frames = (2.0**15 * wave).unfold(1, o.win, o.hop)  # (B, F, win)
        frames = frames - frames.mean(-1, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        frames = frames - o.pre_emphasis * previous
        if self.basis is not None:
            real, imaginary = (frames @ self.basis).chunk(2, dim=-1)
        else:
            spectrum = torch.fft.rfft(frames * self.window, o.n_fft)
            real, imaginary = spectrum.real, spectrum.imag
        power = real.square() + imaginary.square()  # (B, F, n_fft // 2 + 1)
        mel: Tensor = self.filters @ power.mT
        return mel.clamp(min=o.floor).log()


class LevelledMel(MelFeatures):
    """Mel power of a recording raised to -30 dB, without logarithm: the front end of Resemblyzer.

    A recording whose root mean square is lower is amplified to -30 dB below full scale; a louder one stays as
    it is. Frame ``f`` is the 25 ms around sample ``160 f``, and silence surrounds the recording. An
    utterance of T samples has ``T // 160 + 1 + tail`` frames, which are all that it reaches into.

    Resemblyzer also cuts long pauses out with WebRTC's detector of speech. This front end does not.
    """

    def __init__(self, settings: FrontEndSettings) -> None:
        super().__init__(settings, slaney_filters(settings.mels, settings.n_fft))
        self.tail = math.ceil(settings.n_fft // 2 / settings.hop)

    def count(self, samples: Tensor) -> Tensor:
        """Number of frames of utterances of so many samples, with the tail."""
        return super().count(samples) + self.tail

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples, (B,) valid ones or ``None`` -> (B, mels, F) mel power."""
        edge = self.settings.n_fft // 2
        if lengths is not None:
            wave = wave.masked_fill(~valid_mask(lengths, wave.shape[-1]), 0.0)
        energy = wave.square().sum(-1, keepdim=True)
        count = wave.shape[-1] if lengths is None else lengths[:, None]
        level = (energy / count).sqrt().clamp(min=1e-8)
        wave = wave * (10 ** (LEVEL / 20) / level).clamp(min=1.0)
        return self.mel_power(nn.functional.pad(wave, (edge, edge + self.tail * self.settings.hop)))


class SpeechBrainFbank(MelFeatures):
    """Mel power in decibels, at most 80 dB below the loudest of the recording: SpeechBrain's ``Fbank``.

    Frame ``f`` is the 25 ms around sample ``160 f``, silence surrounds the recording, and power below
    ``floor`` counts as ``floor``. Its recipes then subtract the mean of each mel bin.
    """

    def __init__(self, settings: FrontEndSettings) -> None:
        super().__init__(settings, isosceles_filters(settings.mels, settings.n_fft))

    def compute(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """(B, T) samples, (B,) valid ones or ``None`` -> (B, mels, T // hop + 1) decibels."""
        edge = self.settings.n_fft // 2
        if lengths is not None:
            wave = wave.masked_fill(~valid_mask(lengths, wave.shape[-1]), 0.0)
        power = self.mel_power(nn.functional.pad(wave, (edge, edge)))
        decibels = 10.0 * power.clamp(min=self.settings.floor).log10()
        heard = decibels
        if lengths is not None:
            valid = valid_mask(self.count(lengths), decibels.shape[-1])[:, None, :]
            heard = decibels.masked_fill(~valid, float("-inf"))
        return torch.maximum(decibels, heard.amax((1, 2), keepdim=True) - RANGE)


_KINDS: Mapping[str, Callable[[FrontEndSettings], MelFeatures]] = {
    "log_mel": LogMel,
    "kaldi": KaldiFbank,
    "resemblyzer": LevelledMel,
    "speechbrain": SpeechBrainFbank,
}


def build_front_end(settings: FrontEndSettings) -> MelFeatures:
    """Build the front end that the settings describe."""
    return _KINDS[settings.kind](settings)
