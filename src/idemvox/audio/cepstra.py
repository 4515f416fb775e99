"""Classic cepstral processing of one utterance: deltas, sliding-mean normalisation, energy detector."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cosines", "deltas", "energetic", "less_sliding_mean"]


def cosines(cepstra: int, mels: int) -> Tensor:
    """First rows of the orthonormal DCT-II, (cepstra, mels); times log-mel features it gives MFCCs."""
    k, n = torch.arange(cepstra, dtype=torch.float64), torch.arange(mels, dtype=torch.float64)
    matrix = torch.cos(math.pi / mels * (n + 0.5) * k[:, None]) * math.sqrt(2 / mels)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def deltas(x: Tensor, width: int = 3) -> Tensor:
    """Slope of (D, F) over time, by regression over ``width`` frames on each side; edge frames are repeated.

    sum_n n (x[t + n] - x[t - n]) / (2 sum_n n^2), as in HTK and Kaldi.
    """
    steps = torch.arange(-width, width + 1, dtype=x.dtype, device=x.device)
    padded = functional.pad(x[:, None], (width, width), mode="replicate")  # (D, 1, F + 2 width)
    return functional.conv1d(padded, (steps / steps.square().sum())[None, None]).squeeze(1)


def less_sliding_mean(x: Tensor, window: int = 300) -> Tensor:
    """Subtract from (D, F) the mean of the ``window`` frames around each frame.

    At the ends the window stays inside the utterance. An utterance shorter than the window loses its overall
    mean. Both as in Kaldi.
    """
    x = x - x.mean(-1, keepdim=True)  # also keeps the cumulative sums small
    size = x.shape[-1]
    if size <= window:
        return x
    sums = functional.pad(x.cumsum(-1), (1, 0))  # (D, F + 1)
    start = (torch.arange(size, device=x.device) - window // 2).clamp(0, size - window)
    return x - (sums[:, start + window] - sums[:, start]) / window


def energetic(log_mel: Tensor) -> Tensor:
    """Unnormalised log powers (mels, F) -> (F,) which frames are loud enough to be speech.

    A frame counts if its log energy is above the utterance's mean minus half its standard deviation. Unlike
    Kaldi's rule this does not depend on the recording's level. At least one frame always counts.
    """
    energy = log_mel.logsumexp(0)
    slack = 0.1  # so that rounding decides nothing when all frames are equal
    return energy >= energy.mean() - energy.std(correction=0) / 2 - slack
