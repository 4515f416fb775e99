"""The front end of networks that hold torchaudio's ``MelSpectrogram``, read off its buffers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings, LogMel, Window

__all__ = ["mel_front_end"]


def mel_front_end(window: Tensor, filters: Tensor, pre_emphasis: float = 0.0) -> FrontEndSettings:
    """Return the settings of a log-mel front end with the variance normalised, and a hop of 10 ms.

    Args:
        window: (win,) buffer ``spectrogram.window``.
        filters: (n_fft // 2 + 1, mels) buffer ``mel_scale.fb``.
        pre_emphasis: 0 for none.

    Raises:
        KeyError: the buffers are not those of a front end that ours can be.
    """
    bins, mels = filters.shape
    shapes: Mapping[Window, Tensor] = {
        "hamming": torch.hamming_window(len(window)),
        "hann": torch.hann_window(len(window)),
    }
    names = [name for name, shape in shapes.items() if torch.allclose(window, shape, atol=1e-6)]
    if not names:
        raise KeyError("the front end's window is neither a Hamming nor a Hann window")
    settings = FrontEndSettings(
        mels=mels, window=names[0], n_fft=2 * (bins - 1), win=len(window), pre_emphasis=pre_emphasis
    )
    if not torch.allclose(LogMel(settings).filters, filters.T, atol=1e-4):
        raise KeyError("the front end's mel filters do not lie between 0 and 8 kHz on HTK's scale")
    return settings
