"""What frameworks put behind an encoder while they train; thrown away afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Affine", "DINOHead", "Prototypes"]


class Affine(nn.Module):
    """The learnable scale w and bias b of similarities (Wan et al., 2018): 10 and -5 to begin with.

    The scale is |weight|: exact at the beginning, learnt as w itself would be, and positive for good.  The
    public code clamps w but throws the result away; a clamp that worked would stop w from learning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    @property
    def scale(self) -> Tensor:
        """Return w, a scalar."""
        return self.weight.abs()


class DINOHead(nn.Sequential):
    """Three linear layers, with batch normalisation and GELU between them (Caron et al., 2021).

    Args:
        dim: width of a representation.
        hidden: width of the two layers in between.
        bottleneck: width of what comes out.

    Returns, for (N, dim): (N, bottleneck) of unit norm, fp32 whatever the autocast.
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
        """Project (N, dim) to (N, bottleneck)."""
        for layer in self:
            x = layer(x)
        return F.normalize(x.float(), dim=-1)


class Prototypes(nn.Module):
    """A linear layer without bias whose rows count by their direction alone.

    That is weight normalisation with the gain fixed at 1; of unit vectors the outputs are cosines.
    Computed in fp32 whatever the autocast: at temperature 0.04 bf16 moves a logit by a tenth.

    Args:
        dim: width of what goes in.
        outputs: number of prototypes.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, dim))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Compare (..., dim) unit vectors with the prototypes: (..., outputs)."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), F.normalize(self.weight.float(), dim=1))
