"""Small random weights."""

from __future__ import annotations

import torch
from torch import Tensor

State = dict[str, Tensor]


def tensors(generator: torch.Generator, sizes: dict[str, tuple[int, ...]], norms: dict[str, int]) -> State:
    """Random weights of these sizes, and batch norms of these widths that have seen some data."""
    state = {name: random(generator, *size) for name, size in sizes.items()}
    for name, width in norms.items():
        for leaf, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.{leaf}"] = low + torch.rand(width, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def random(generator: torch.Generator, *size: int, scale: float = 0.3) -> Tensor:
    return scale * torch.randn(*size, generator=generator)
