"""An encoder small enough to think about."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Linear(nn.Module):
    """10 samples into 4 numbers."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 4)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.linear(wave)


class Swapped:
    """A positive sampler by hand: what becomes of the targets, and who is nobody's negative."""

    def __init__(
        self,
        swap: Callable[[Tensor, Tensor], Tensor] = lambda ids, targets: targets,
        related: Tensor | None = None,
    ) -> None:
        self.swap, self.answer = swap, related

    def __call__(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.swap(ids, targets)

    def related(self, ids: Tensor) -> Tensor | None:
        return self.answer


@pytest.fixture
def sampler() -> type[Swapped]:
    """Return ``sampler(swap=..., related=None)``."""
    return Swapped


@pytest.fixture
def encoder() -> Linear:
    torch.manual_seed(0)
    return Linear()
