"""ECAPA-TDNN, the encoder of the best published results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings, reflect_index, valid_mask
from idemvox.encoders.base import Encoder
from idemvox.encoders.pooling import AttentiveStatistics, PlainAttentiveStatistics
from idemvox.errors import RecipeError
from idemvox.registry import ENCODERS

__all__ = ["ECAPATDNN"]


def zero_pad(x: Tensor, pad: int, frames: Tensor | None) -> Tensor:
    """Pad each row of (B, C, F) by zeros at both ends; ``frames`` (B,) are valid, ``None``: all F."""
    if frames is not None:
        x = x.masked_fill(~valid_mask(frames, x.shape[-1])[:, None, :], 0.0)
    return functional.pad(x, (pad, pad))


def reflect_pad(x: Tensor, pad: int, frames: Tensor | None) -> Tensor:
    """Pad each row of (B, C, F) by reflection at both ends; ``frames`` (B,) are valid, ``None``: all F."""
    size = x.shape[-1]
    if frames is None:
        if size > pad:
            return functional.pad(x, (pad, pad), mode="reflect")
        frames = x.new_full(x.shape[:1], size, dtype=torch.long)
    index = reflect_index(-pad, size + pad, frames)  # (B, F + 2 pad)
    return x.gather(2, index[:, None, :].expand(-1, x.shape[1], -1))


class TDNN(nn.Module):
    """Convolution over time with padding by reflection or by zeros, then ReLU, then batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, dilation: int = 1, reflect: bool = True
    ) -> None:
        super().__init__()
        self.pad = dilation * (kernel - 1) // 2
        self.padding = reflect_pad if reflect else zero_pad
        self.conv = nn.Conv1d(inputs, outputs, kernel, dilation=dilation)
        self.norm: nn.Module = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """(B, C, F) -> (B, C', F)."""
        if self.pad:
            x = self.padding(x, self.pad, frames)
        out: Tensor = self.norm(self.conv(x).relu_())
        return out


class Res2Net(nn.Module):
    """Chunks in a chain: ``y_1 = x_1, y_2 = f(x_2), y_i = f(x_i + y_{i-1})`` (Gao et al., 2021)."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int, reflect: bool = True) -> None:
        super().__init__()
        self.scale = scale
        width = channels // scale
        self.steps = nn.ModuleList(TDNN(width, width, kernel, dilation, reflect) for _ in range(scale - 1))

    def forward(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """(B, C, F) -> (B, C, F)."""
        chunks = x.chunk(self.scale, dim=1)
        outputs = [chunks[0]]
        for index, (step, chunk) in enumerate(zip(self.steps, chunks[1:], strict=True)):
            outputs.append(step(chunk if index == 0 else chunk + outputs[-1], frames))
        return torch.cat(outputs, dim=1)


class SERes2Block(nn.Module):
    """1x1, Res2Net, 1x1, squeeze-excitation and the residual (Desplanques et al., 2020, section 3.2)."""

    def __init__(
        self, channels: int, scale: int, dilation: int, bottleneck: int, reflect: bool = True
    ) -> None:
        super().__init__()
        self.first = TDNN(channels, channels)
        self.res2net = Res2Net(channels, scale, 3, dilation, reflect)
        self.last = TDNN(channels, channels)
        self.squeeze = nn.Linear(channels, bottleneck)
        self.excite = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor, frames: Tensor | None) -> Tensor:
        """(B, C, F) -> (B, C, F)."""
        y = self.last(self.res2net(self.first(x, frames), frames), frames)
        if frames is None:
            mean = y.mean(-1)
        else:
            mask = valid_mask(frames, y.shape[-1])[:, None, :]
            mean = y.masked_fill(~mask, 0.0).sum(-1) / frames[:, None].to(y.dtype)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(mean))))
        return torch.addcmul(x, y, gate.to(y.dtype).unsqueeze(-1))


@ENCODERS.register("ecapa_tdnn")
class ECAPATDNN(Encoder):
    """ECAPA-TDNN (Desplanques et al., 2020) in the SpeechBrain layout; 22.53 M parameters at 40 mels.

    The defaults are those of the published SSPS, RDINO and SDPN results, whose aggregation layer has 3072
    channels. The ECAPA paper itself uses 80 mels, ``mfa_channels=1536`` and ``dim=192`` (14.66 M).
    """

    tiny: ClassVar[Mapping[str, Any]] = {
        "channels": 16,
        "mfa_channels": 24,
        "attention": 8,
        "bottleneck": 8,
        "dim": 16,
    }

    @dataclass(frozen=True, slots=True)
    class Options:
        """Published sizes; ``channels`` must be a multiple of ``scale``.

        Attributes:
            attention: bottleneck width of the attentive statistics.
            bottleneck: bottleneck width of the channel gates.
            scale: number of chunks of a Res2Net layer.
            layout: ``wespeaker`` pads convolutions by zeros instead of reflection, and has no batch norm
                after the aggregation and in the attention.
            context: whether the attention sees the mean and deviation of the whole recording.
        """

        dim: int = 512
        channels: int = 1024
        mfa_channels: int = 3072
        attention: int = 128
        bottleneck: int = 128
        scale: int = 8
        layout: Literal["speechbrain", "wespeaker"] = "speechbrain"
        context: bool = True

    def __init__(self, options: Options | None = None, frontend: FrontEndSettings | None = None) -> None:
        super().__init__(frontend)
        self.options = o = options or self.Options()
        if o.channels % o.scale:
            raise RecipeError(
                f"ECAPA-TDNN needs channels to be a multiple of scale: {o.channels} and {o.scale} do not fit"
            )
        if o.layout == "speechbrain" and not o.context:
            raise RecipeError("encoder.context=false needs encoder.layout=wespeaker")
        self.dim = o.dim
        reflect = o.layout == "speechbrain"
        self.stem = TDNN(self.frontend.settings.mels, o.channels, 5, reflect=reflect)
        self.blocks = nn.ModuleList(
            SERes2Block(o.channels, o.scale, d, o.bottleneck, reflect) for d in (2, 3, 4)
        )
        self.aggregate = TDNN(3 * o.channels, o.mfa_channels)
        self.pool: nn.Module
        if o.layout == "speechbrain":
            self.pool = AttentiveStatistics(o.mfa_channels, o.attention)
        else:
            self.aggregate.norm = nn.Identity()
            self.pool = PlainAttentiveStatistics(o.mfa_channels, o.attention, o.context)
        self.norm = nn.BatchNorm1d(2 * o.mfa_channels)
        self.fc = nn.Linear(2 * o.mfa_channels, o.dim)

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) normalised log-mel, (B,) valid frames or ``None`` -> (B, dim)."""
        x = self.part(self.stem, features, frames)  # (B, C, F)
        outputs = []
        for block in self.blocks:
            x = self.part(block, x, frames)
            outputs.append(x)
        x = self.part(self.aggregate, torch.cat(outputs, dim=1), frames)  # (B, C', F)
        embedding: Tensor = self.fc(self.norm(self.part(self.pool, x, frames)))
        return embedding
