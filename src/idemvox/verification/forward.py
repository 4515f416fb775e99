"""Run an encoder with torch on waves."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from idemvox.arrays import Wave
from idemvox.embedder import Embedder
from idemvox.modules import evaluating

__all__ = ["forward", "place_of", "settle"]


def forward(
    encoder: Embedder,
    padded: Wave,
    lengths: NDArray[np.int64],
    device: str | torch.device | None,
    precision: Literal["fp32", "bf16"],
) -> NDArray[np.float32]:
    """(B, T) samples, (B,) valid ones -> (B, D).

    The rest is as for :func:`~idemvox.verification.embed.embed_files`.
    """
    place = place_of(encoder, device)
    mode = evaluating(encoder) if isinstance(encoder, nn.Module) else nullcontext()
    with mode, torch.autocast(place.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        vectors = encoder(torch.from_numpy(padded).to(place), torch.from_numpy(lengths).to(place))
    matrix: NDArray[np.float32] = torch.as_tensor(vectors).float().cpu().numpy()
    return matrix


def settle(encoder: Embedder, device: str | torch.device | None) -> None:
    """Put a module into evaluation mode, and on a device; another callable stays as it is."""
    if isinstance(encoder, nn.Module):
        encoder.eval().to(device)


def place_of(encoder: Embedder, device: str | torch.device | None) -> torch.device:
    """Move a module to ``device``; return the device for the encoder's input."""
    if not isinstance(encoder, nn.Module):
        return torch.device(device or "cpu")
    tensor = next(iter([*encoder.parameters(), *encoder.buffers()]), None)
    here = torch.device("cpu") if tensor is None else tensor.device
    place = here if device is None else torch.device(device)
    if place.type != here.type or place.index not in (None, here.index):
        # not otherwise: it takes an LSTM's weights apart, which another thread may be using
        encoder.to(place)
    return place
