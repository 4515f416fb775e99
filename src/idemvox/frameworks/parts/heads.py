"""Heads that frameworks put on an encoder in training; a model does not keep them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Affine", "DINOHead", "Prototypes"]


class Affine(nn.Module):
    """A learnable scale w, initially 10, and bias b, initially -5, of similarities (Wan et al., 2018).

    The scale is |weight|, so it stays positive. The public code clamps w but discards the result; a clamp
    that took effect would stop w from learning at the bound.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    @property
    def scale(self) -> Tensor:
        """The scale w, a scalar tensor."""
        return self.weight.abs()


class DINOHead(nn.Sequential):
    """Three linear layers, with batch normalisation and GELU between them (Caron et al., 2021).

    Args:
        dim: width of a representation.
        hidden: width of the two hidden layers.
        bottleneck: width of the output.
    """

    def __init__(self, dim: int, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__(
            nn.Linear(dim, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Project (N, dim) to (N, bottleneck) of unit norm, in fp32 even under autocast."""
        for layer in self:
            x = layer(x)
        return F.normalize(x.float(), dim=-1)


class Prototypes(nn.Module):
    """A linear layer without bias, with normalised rows: its outputs for unit vectors are cosines.

    This is weight normalisation with the gain fixed at 1. It runs in fp32 even under autocast: at temperature
    0.04, bf16 changes a logit by 0.1.

    Args:
        dim: width of the input.
        outputs: number of prototypes.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Return the cosines (..., outputs) of unit vectors (..., dim) with the prototypes."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), F.normalize(self.weight.float(), dim=1))
