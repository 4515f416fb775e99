"""Pooling over time, from one vector per frame to one per recording, in float32 over the valid frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.frontend import valid_mask

__all__ = [
    "AttentiveStatistics",
    "PlainAttentiveStatistics",
    "SelfAttentivePooling",
    "mean_and_deviation",
    "sample_statistics",
]

VARIANCE_FLOOR = 1e-12
PLAIN_FLOOR = 1e-10  # of PlainAttentiveStatistics, for both variances


def mean_and_deviation(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weighted mean and standard deviation over the last axis.

    Args:
        x: (B, C, F) float32.
        weights: broadcastable to x, summing to 1 over F; ``None`` means equal weights.

    Returns:
        Two (B, C) tensors. The variance is biased and floored at 1e-12.
    """
    if weights is None:
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).square().mean(-1)
    else:
        mean = (x * weights).sum(-1, keepdim=True)
        variance = ((x - mean).square() * weights).sum(-1)
    return mean.squeeze(-1), variance.clamp(min=VARIANCE_FLOOR).sqrt()


def sample_statistics(x: Tensor, frames: Tensor | None, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over time, as WeSpeaker takes them.

    Args:
        x: (B, C, F) float32.
        frames: (B,) valid frames of each row; ``None`` means all F.
        epsilon: added to the variance, which is unbiased, and 0 for a single frame.

    Returns:
        Two (B, C) tensors.
    """
    if frames is None:
        frames = x.new_full(x.shape[:1], x.shape[-1], dtype=torch.long)
    mask = valid_mask(frames, x.shape[-1])[:, None, :]
    mean = x.masked_fill(~mask, 0.0).sum(-1) / frames[:, None]
    square = (x - mean[..., None]).masked_fill(~mask, 0.0).square().sum(-1)
    return mean, (square / (frames - 1).clamp(min=1)[:, None] + epsilon).sqrt()


class SelfAttentivePooling(nn.Module):
    """SAP (Cai et al., 2018, eq. 1-3): ``h = tanh(W x + b)``, ``w = softmax(h . mu)``, ``sum w x``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, channels)
        self.context = nn.Parameter(torch.empty(channels, 1))
        nn.init.xavier_normal_(self.context)

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """(B, C, F) -> (B, C), over the first ``frames`` (B,) of each row, or all F."""
        with torch.autocast(x.device.type, enabled=False):
            x = x.float().transpose(1, 2)  # (B, F, C)
            scores = (torch.tanh(self.project(x)) @ self.context).squeeze(-1)  # (B, F)
            if frames is not None:
                scores = scores.masked_fill(~valid_mask(frames, x.shape[1]), float("-inf"))
            return (x.transpose(1, 2) @ scores.softmax(-1).unsqueeze(-1)).squeeze(-1)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling with global context (Desplanques et al., 2020, eq. 3-6).

    The attention of each channel and frame sees ``[x_t, mean, deviation]``; the output is the weighted mean
    and standard deviation, (B, 2 C).
    """

    def __init__(self, channels: int, hidden: int = 128) -> None:
        super().__init__()
        self.channels = channels
        self.reduce = nn.Conv1d(3 * channels, hidden, 1)
        self.norm = nn.BatchNorm1d(hidden)
        self.score = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """(B, C, F) -> (B, 2 C), over the first ``frames`` (B,) of each row, or all F."""
        mask = None if frames is None else valid_mask(frames, x.shape[-1])[:, None, :]  # (B, 1, F)
        with torch.autocast(x.device.type, enabled=False):
            equal = None if frames is None or mask is None else mask / frames[:, None, None].float()
            context = torch.cat(mean_and_deviation(x.float(), equal), dim=1)  # (B, 2 C)
        # conv([x_t, mean, deviation]) without copying the context, whose part is the same for every frame
        per_frame, shared = self.reduce.weight.split([self.channels, 2 * self.channels], dim=1)
        common = functional.linear(context, shared.squeeze(-1), self.reduce.bias)  # (B, hidden)
        hidden = functional.conv1d(x, per_frame) + common.unsqueeze(-1)  # (B, hidden, F)
        scores = self.score(torch.tanh(self.norm(functional.relu(hidden))))  # (B, C, F)
        with torch.autocast(x.device.type, enabled=False):
            scores = scores.float()
            if mask is not None:
                scores = scores.masked_fill(~mask, float("-inf"))
            return torch.cat(mean_and_deviation(x.float(), scores.softmax(-1)), dim=1)


class PlainAttentiveStatistics(nn.Module):
    """Attentive statistics pooling as WeSpeaker has it: ``score(tanh(reduce(x)))``, without batch norm.

    With ``context`` the attention also sees the mean and deviation over the recording. The output is the
    weighted mean and standard deviation, (B, 2 C).
    """

    def __init__(self, channels: int, hidden: int = 128, context: bool = True) -> None:
        super().__init__()
        self.context = context
        self.reduce = nn.Conv1d((3 if context else 1) * channels, hidden, 1)
        self.score = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor, frames: Tensor | None = None) -> Tensor:
        """(B, C, F) -> (B, 2 C), over the first ``frames`` (B,) of each row, or all F."""
        seen = x
        with torch.autocast(x.device.type, enabled=False):
            if self.context:
                both = sample_statistics(x.float(), frames, PLAIN_FLOOR)
                seen = torch.cat([x, *(part[..., None].expand_as(x).to(x.dtype) for part in both)], dim=1)
        scores = self.score(torch.tanh(self.reduce(seen)))  # (B, C, F)
        with torch.autocast(x.device.type, enabled=False):
            scores = scores.float()
            if frames is not None:
                outside = ~valid_mask(frames, x.shape[-1])[:, None, :]
                scores = scores.masked_fill(outside, float("-inf"))
            mean, deviation = mean_and_deviation(x.float(), scores.softmax(-1))
            return torch.cat([mean, deviation.clamp(min=PLAIN_FLOOR**0.5)], dim=1)
