"""The base class of encoders: a front end and a network in one module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from idemvox.audio.fbank import build_front_end
from idemvox.audio.frontend import FrontEndSettings

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """Waveform in, representation out; the same object trains, evaluates and ships.

    Subclasses take ``(options: Options | None, frontend: FrontEndSettings | None)``, set :attr:`dim`, and
    implement :meth:`encode` on log-mel features. ``Options`` is a frozen dataclass with the published
    defaults.
    """

    dim: int
    """Width of the representation."""

    fitter: ClassVar[str] = "gradient"
    """What fits it, by its name in the registry of fitters: a framework's gradients, or ``em``."""

    tiny: ClassVar[Mapping[str, Any]] = {}
    """Options that make it small enough to train in a test."""

    exporting: bool = False
    """Whether :meth:`for_export` was called."""

    recompute: bool = False
    """Whether to store only the inputs of each :meth:`part` and recompute the rest in the backward pass."""

    def __init__(self, frontend: FrontEndSettings | None = None) -> None:
        super().__init__()
        self.frontend = build_front_end(frontend or FrontEndSettings())

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Represent each waveform of a batch by one vector.

        Args:
            wave: (B, T) samples in [-1, 1] at 16 kHz; samples beyond an utterance's length are ignored.
            lengths: (B,) valid samples of each row; ``None`` means all T.

        Returns:
            (B, dim) representations, not normalised. Padding changes nothing.
        """
        with torch.autocast(wave.device.type, enabled=False):
            features, frames = self.frontend(wave.float(), lengths)  # (B, mels, F), (B,) or None
        return self.encode(features, frames)

    def for_export(self) -> None:
        """Compute from now on, with the same result, by operations that ONNX has, whatever the lengths are.

        Raises:
            ModelError: there is no such way.
        """
        self.exporting = True
        self.frontend.for_export()

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) normalised log-mel, (B,) valid frames or ``None`` -> (B, dim)."""
        raise NotImplementedError

    def part(self, module: nn.Module, *inputs: Any) -> Tensor:
        """Apply one part of the network; with :attr:`recompute`, in little memory.

        The result, its gradients and the running statistics are the same either way.
        """
        if not (self.recompute and torch.is_grad_enabled()):
            output: Tensor = module(*inputs)
            return output
        recomputed: Tensor = checkpoint(
            module,
            *inputs,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _buffers_kept(module)),
        )
        return recomputed


@contextmanager
def _buffers_kept(module: nn.Module) -> Iterator[None]:
    """Run a block on copies of the buffers, so that a second pass does not update running statistics."""
    kept = [(child, dict(child.named_buffers(recurse=False))) for child in module.modules()]
    for child, buffers in kept:
        for name, value in buffers.items():
            setattr(child, name, value.clone())
    try:
        yield
    finally:
        for child, buffers in kept:
            for name, value in buffers.items():
                setattr(child, name, value)
