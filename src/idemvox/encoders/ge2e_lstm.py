"""The LSTM of generalised end-to-end training, in Resemblyzer's layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.frontend import FrontEndSettings, valid_mask
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.registry import ENCODERS

__all__ = ["GE2ELSTM"]


AT_ONCE = 512  # windows; half an hour's would take a gigabyte


class Network(nn.Module):
    """The LSTM's last state, projected and rectified, of length 1."""

    def __init__(self, inputs: int, hidden: int, layers: int, dim: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, hidden, layers, batch_first=True)
        self.linear = nn.Linear(hidden, dim)

    def forward(self, windows: Tensor) -> Tensor:
        """(N, F, mels) -> (N, dim)."""
        _, (hidden, _) = self.lstm(windows)
        return functional.normalize(self.linear(hidden[-1]).relu())


@ENCODERS.register("ge2e_lstm")
class GE2ELSTM(Encoder):
    """Three LSTM layers over windows of 1.6 s (Wan et al., 2018), in the layout of Resemblyzer.

    Each window is represented by the last state of the last layer, projected and rectified, as a unit vector.
    A recording is represented by the mean over its windows, again of length 1. Windows start every 0.77 s;
    silence fills the last one. With Resemblyzer's weights (``idemvox import-weights``) and its front end this
    is the embedding of its ``VoiceEncoder.embed_utterance``.

    >>> GE2ELSTM()(torch.randn(2, 16000)).shape
    torch.Size([2, 256])
    """

    tiny: ClassVar[Mapping[str, Any]] = {"hidden": 16, "layers": 2, "dim": 16, "window": 4, "step": 2}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Sizes of the network, and its windows in frames of 10 ms.

        Attributes:
            window: frames of a window.
            step: frames from one window to the next.
            coverage: share of the last window that the recording must fill; a first window is always used.
        """

        dim: int = 256
        hidden: int = 256
        layers: int = 3
        window: int = 160
        step: int = 77
        coverage: float = 0.75

        def __post_init__(self) -> None:
            if not (1 <= self.step <= self.window and 0 < self.coverage <= 1):
                raise RecipeError(f"impossible windows {self}: use 1 <= step <= window and 0 < coverage <= 1")

    def __init__(self, options: Options | None = None, frontend: FrontEndSettings | None = None) -> None:
        super().__init__(frontend)
        self.options = o = options or self.Options()
        self.dim = o.dim
        self.network = Network(self.frontend.settings.mels, o.hidden, o.layers, o.dim)

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) features, (B,) valid frames or ``None`` -> (B, dim) unit vectors."""
        o, size = self.options, features.shape[-1]
        if frames is None:
            frames = torch.full(features.shape[:1], size, device=features.device)
        counts = self.windows(frames)  # (B,)
        if self.exporting:
            return self._encode_all(features, counts)
        most = int(counts.max())
        extent = (most - 1) * o.step + o.window
        windows = functional.pad(features, (0, max(0, extent - size))).unfold(-1, o.window, o.step)
        used = valid_mask(counts, most)  # (B, W)
        chosen = windows[:, :, :most].permute(0, 2, 3, 1)[used]  # (N, window, mels)
        with torch.autocast(features.device.type, enabled=False):
            parts = chosen.float().split(AT_ONCE)
            each = torch.cat([self.part(self.network, part) for part in parts])  # (N, dim)
            owner = used.nonzero()[:, 0]
            total = each.new_zeros(len(features), o.dim).index_add(0, owner, each)
            return functional.normalize(total)

    def _encode_all(self, features: Tensor, counts: Tensor) -> Tensor:
        """Encode every window that fits the batch, also those past a row's end, and leave these out after.

        How many there are is then known from the shape alone, as an export needs it.
        """
        o = self.options
        features = functional.pad(features, (0, o.window))  # so that the last window fits, wherever it begins
        starts = torch.arange(0, features.shape[-1] - o.window + 1, o.step, device=features.device)
        inside = starts[:, None] + torch.arange(o.window, device=features.device)  # (W, window)
        windows = features.permute(0, 2, 1)[:, inside]  # (B, W, window, mels)
        each = self.network(windows.flatten(0, 1)).unflatten(0, (features.shape[0], -1))  # (B, W, dim)
        return functional.normalize((each * valid_mask(counts, each.shape[1])[..., None]).sum(1))

    def windows(self, frames: Tensor) -> Tensor:
        """(B,) valid frames -> (B,) number of windows of each row."""
        o = self.options
        frames = frames - self.frontend.tail  # those whose centres lie within the recording
        begun = (frames - o.window + o.step + 1).clamp(min=1)
        counts = torch.div(begun + o.step - 1, o.step, rounding_mode="floor")
        filled = frames - 1 - (counts - 1) * o.step  # of the last window
        return torch.where((counts > 1) & (filled < o.coverage * o.window), counts - 1, counts)
