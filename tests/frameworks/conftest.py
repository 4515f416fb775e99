"""A linear encoder and samplers for the tests of frameworks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from idemvox.batch import Sampler, Swap


class Linear(nn.Module):
    """A linear encoder from 10 samples to 4 numbers."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 4)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.linear(wave)


@dataclass(frozen=True, slots=True)
class Answered(Swap):
    """A swap with a given answer to :meth:`related`."""

    answer: Tensor | None = None

    def related(self, ids: Tensor, others: Tensor | None = None) -> Tensor | None:
        return self.answer


@pytest.fixture
def sampler() -> Callable[..., Sampler]:
    """Return ``sampler(swap=..., related=None)``: new targets, and pairs to exclude from the negatives."""

    def make(
        swap: Callable[[Tensor, Tensor], Tensor] = lambda ids, targets: targets,
        related: Tensor | None = None,
    ) -> Sampler:
        return lambda ids, targets: Answered(swap(ids, targets), answer=related)

    return make


@pytest.fixture
def encoder() -> Linear:
    torch.manual_seed(0)
    return Linear()
