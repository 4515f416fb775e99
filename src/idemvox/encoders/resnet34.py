"""ResNet-34 with statistics pooling, the r-vector of WeSpeaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings, valid_mask
from idemvox.encoders.base import Encoder
from idemvox.encoders.pooling import sample_statistics
from idemvox.registry import ENCODERS

__all__ = ["ResNet34"]

SHORTEST_REDUCED = 9
"""Fewest frames to use autocast for: oneDNN's strided bfloat16 convolution is wrong for 2 columns."""

EPSILON = 1e-8  # added to the variance in the pooling


class Block(nn.Module):
    """Basic residual block: conv, batch norm, ReLU, conv, batch norm, plus the input, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, M, F) -> (B, C', M', F'); ``mask`` (B, 1, 1, F') is for the output, zero in the padding."""
        y = self.bn1(self.conv1(x)).relu_()
        if mask is not None:
            y = y * mask  # batch norm made the padding nonzero; an utterance alone is padded with zeros
        residual = x if self.shortcut is None else self.shortcut(x)
        y = functional.relu(self.bn2(self.conv2(y)) + residual)
        return y if mask is None else y * mask


@ENCODERS.register("resnet34")
class ResNet34(Encoder):
    """ResNet-34 in the layout of WeSpeaker (Zeinali et al., 2019); 6,634,336 parameters at 80 mels.

    Four layers of 3, 4, 6 and 3 basic blocks process the (mels, frames) image, the last three with stride 2.
    The mean and the standard deviation over time of every channel and row are then projected.

    >>> ResNet34()(torch.randn(2, 16000)).shape
    torch.Size([2, 256])
    """

    tiny: ClassVar[Mapping[str, Any]] = {"channels": [4, 8, 8, 8], "blocks": [1, 1, 1, 1], "dim": 16}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Published sizes.

        Attributes:
            blocks: of each layer, at least 1; 2 each are a ResNet-18.
        """

        dim: int = 256
        channels: tuple[int, int, int, int] = (32, 64, 128, 256)
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3)

    def __init__(self, options: Options | None = None, frontend: FrontEndSettings | None = None) -> None:
        super().__init__(frontend)
        self.options = o = options or self.Options()
        self.dim = o.dim
        self.conv1 = nn.Conv2d(1, o.channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o.channels[0])
        self.layers = nn.ModuleList()
        inputs, rows = o.channels[0], self.frontend.settings.mels
        for index, (outputs, blocks) in enumerate(zip(o.channels, o.blocks, strict=True)):
            first = Block(inputs, outputs, 1 if index == 0 else 2)
            self.layers.append(
                nn.ModuleList([first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1))])
            )
            inputs, rows = outputs, rows if index == 0 else (rows + 1) // 2
        self.fc = nn.Linear(2 * inputs * rows, o.dim)

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) features, (B,) valid frames or ``None`` -> (B, dim)."""
        if features.shape[-1] < SHORTEST_REDUCED and torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self.encode(features.float(), frames)
        x = self.bn1(self.conv1(features.unsqueeze(1))).relu_()  # (B, C, mels, F)
        size, mask = x.shape[-1], self._mask(frames, x, x.shape[-1])
        if mask is not None:
            x = x * mask
        for index, layer in enumerate(self.layers):
            if index > 0:
                size = (size - 1) // 2 + 1
                frames = None if frames is None else torch.div(frames - 1, 2, rounding_mode="floor") + 1
                mask = self._mask(frames, x, size)
            for block in layer.children():
                x = self.part(block, x, mask)
        with torch.autocast(x.device.type, enabled=False):
            mean, deviation = sample_statistics(x.float().flatten(1, 2), frames, EPSILON)
        embedding: Tensor = self.fc(torch.cat([mean, deviation], dim=1))
        return embedding

    @staticmethod
    def _mask(frames: Tensor | None, like: Tensor, size: int) -> Tensor | None:
        """(B,) valid frames -> (B, 1, 1, F) ones and zeros with the dtype of ``like``."""
        return None if frames is None else valid_mask(frames, size)[:, None, None, :].to(like.dtype)
