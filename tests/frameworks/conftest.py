"""An encoder small enough to think about."""

from __future__ import annotations

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


@pytest.fixture
def encoder() -> Linear:
    torch.manual_seed(0)
    return Linear()
