"""Fast ResNet-34, the small residual network used in the single-stage self-supervised papers.

Activations keep torch's default layout. Channels-last saves about a fifth of a step on a CPU, but torch 2.13
crashed with it in the backward pass of narrow layers (8 channels, fp32, two threads).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings, valid_mask
from idemvox.encoders.base import Encoder
from idemvox.encoders.pooling import SelfAttentivePooling
from idemvox.registry import ENCODERS

__all__ = ["FastResNet34"]

SHORTEST_REDUCED = 5
"""Fewest frames to use autocast for: oneDNN's strided bfloat16 convolution is wrong for 2 columns."""


class SqueezeExcite(nn.Module):
    """Channel gates from the mean over frequency and valid time (Hu et al., 2018)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, M, F), (B, 1, 1, F) or ``None`` -> gates (B, C, 1, 1) in x's precision."""
        if mask is None:
            mean = x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
        else:
            mean = (x * mask).sum((2, 3)) / (mask.sum((2, 3)) * x.shape[2])
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return gate.to(x.dtype)[:, :, None, None]


class Block(nn.Module):
    """Basic residual block with gates; the first ReLU comes before its batch norm."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.gate = SqueezeExcite(outputs)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, M, F) -> (B, C', M', F'); ``mask`` (B, 1, 1, F') is for the output, zero in the padding."""
        y = self.bn1(self.conv1(x).relu_())
        if mask is not None:
            y = y * mask  # batch norm made the padding nonzero; an utterance alone is padded with zeros
        y = self.bn2(self.conv2(y))
        residual = x if self.shortcut is None else self.shortcut(x)
        y = torch.addcmul(residual, y, self.gate(y, mask)).relu_()
        return y if mask is None else y * mask


@ENCODERS.register("fast_resnet34")
class FastResNet34(Encoder):
    """Fast ResNet-34 with self-attentive pooling (Chung et al., 2020); 1,437,078 parameters at 40 mels.

    Four layers of 3, 4, 6 and 3 gated basic blocks process the (mels, frames) image; then come the mean over
    frequency and SAP over time. The design is voxceleb_trainer's ResNetSE34L.

    >>> FastResNet34()(torch.randn(2, 16000)).shape
    torch.Size([2, 512])
    """

    tiny: ClassVar[Mapping[str, Any]] = {"channels": [4, 8, 8, 8], "blocks": [1, 1, 1, 1], "dim": 16}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Published sizes; halve ``channels`` for a quarter of the cost.

        Attributes:
            blocks: of each layer, at least 1; 2 each are a ResNet-18.
            norm_first: batch norm before ReLU after the first convolution, as in voxceleb_trainer and sslsv;
                imported weights need it.
        """

        dim: int = 512
        channels: tuple[int, int, int, int] = (16, 32, 64, 128)
        blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
        norm_first: bool = False

    def __init__(self, options: Options | None = None, frontend: FrontEndSettings | None = None) -> None:
        super().__init__(frontend)
        self.options = o = options or self.Options()
        self.dim = o.dim
        widths = tuple(o.channels)
        self.conv1 = nn.Conv2d(1, widths[0], 7, (2, 1), 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._layer(o.blocks[0], widths[0], widths[0], 1)
        self.layer2 = self._layer(o.blocks[1], widths[0], widths[1], 2)
        self.layer3 = self._layer(o.blocks[2], widths[1], widths[2], 2)
        self.layer4 = self._layer(o.blocks[3], widths[2], widths[3], 1)
        self.pool = SelfAttentivePooling(widths[3])
        self.fc = nn.Linear(widths[3], o.dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _layer(blocks: int, inputs: int, outputs: int, stride: int) -> nn.ModuleList:
        first = Block(inputs, outputs, stride)
        return nn.ModuleList([first, *(Block(outputs, outputs, 1) for _ in range(blocks - 1))])

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) normalised log-mel, (B,) valid frames or ``None`` -> (B, dim)."""
        if features.shape[-1] < SHORTEST_REDUCED and torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return self.encode(features.float(), frames)
        x = self.conv1(features.unsqueeze(1))
        x = self.bn1(x).relu_() if self.options.norm_first else self.bn1(x.relu_())  # (B, C, mels / 2, F)
        mask = None
        if frames is not None:
            mask = self._mask(frames, x)
            x = x * mask
        for layer, stride in ((self.layer1, 1), (self.layer2, 2), (self.layer3, 2), (self.layer4, 1)):
            for index, block in enumerate(layer):
                if index == 0 and stride > 1 and frames is not None:
                    frames = torch.div(frames - 1, stride, rounding_mode="floor") + 1
                    mask = self._mask(frames, x, (x.shape[-1] - 1) // stride + 1)
                x = self.part(block, x, mask)
        pooled = self.pool(x.permute(0, 2, 3, 1).mean(1).transpose(1, 2), frames)  # mean over frequency
        embedding: Tensor = self.fc(pooled)
        return embedding

    @staticmethod
    def _mask(frames: Tensor, like: Tensor, size: int | None = None) -> Tensor:
        """(B,) valid frames -> (B, 1, 1, F) ones and zeros with the dtype of ``like``."""
        return valid_mask(frames, size or like.shape[-1])[:, None, None, :].to(like.dtype)
