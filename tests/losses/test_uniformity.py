"""Uniformity, compared with a loop written from the formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.uniformity import uniformity


def slow(x: Tensor, t: float, out: Tensor | None = None) -> float:
    """The mean over the ordered pairs i != j that are not excluded; without exclusions, that over i < j."""
    unit = [row / math.sqrt(float(row @ row)) for row in x]
    potentials = [
        math.exp(-t * float(((a - b) ** 2).sum()))
        for i, a in enumerate(unit)
        for j, b in enumerate(unit)
        if i != j and (out is None or not out[i, j])
    ]
    return math.log(sum(potentials) / len(potentials))


def some(batch: int = 6, dim: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(batch, dim, generator=torch.Generator().manual_seed(batch), dtype=dtype)


def pairs(batch: int) -> Tensor:
    """Random pairs to exclude, not symmetric, and also on the diagonal."""
    return torch.rand(batch, batch, generator=torch.Generator().manual_seed(1)) < 0.4


@pytest.mark.parametrize("t", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("batch", [2, 7])
def test_equals_the_formula(t, batch):
    x = some(batch)
    assert float(uniformity(x, t)) == pytest.approx(slow(x, t), abs=1e-12)
    distance = torch.pdist(F.normalize(x, dim=1))
    assert float(uniformity(x, t)) == pytest.approx(float((-t * distance**2).exp().mean().log()), abs=1e-12)
    if batch > 2:
        found = float(uniformity(x, t, pairs(batch)))
        assert found == pytest.approx(slow(x, t, pairs(batch)), abs=1e-12)
        assert abs(found - slow(x, t)) > 1e-3


def test_equation_3_as_printed_is_larger_by_log_2():
    x = some(5)
    unit = F.normalize(x, dim=1)
    printed = sum(
        math.exp(-2 * float(((unit[i] - unit[j]) ** 2).sum())) for i in range(5) for j in range(5) if i != j
    ) / math.comb(5, 2)
    assert math.log(printed) - float(uniformity(x)) == pytest.approx(math.log(2), abs=1e-12)


def test_known_values():
    assert float(uniformity(torch.ones(4, 3))) == pytest.approx(0, abs=1e-6)  # all points equal
    assert float(uniformity(torch.tensor([[1.0, 0], [-2, 0]]))) == pytest.approx(-8)  # opposite: -t 2^2
    assert float(uniformity(torch.eye(5))) == pytest.approx(-4)  # at right angles: -t 2


@pytest.mark.parametrize("out", [None, pairs(4)])
def test_gradient(out):
    assert torch.autograd.gradcheck(lambda x: uniformity(x, 2.0, out), some(4, 3).requires_grad_())


@pytest.mark.parametrize("batch", [1, 3])
def test_without_pairs_loss_and_gradient_are_zero(batch):
    x = some(batch).requires_grad_()
    value = uniformity(x, 2.0, torch.ones(batch, batch, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0 and torch.equal(x.grad, torch.zeros_like(x))


def test_gradient_descent_spreads_points_apart():
    x = (1 + 0.1 * some(8, 3, torch.float32)).requires_grad_()
    before = float(uniformity(x).detach())
    optimizer = torch.optim.SGD([x], lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        uniformity(x).backward()
        optimizer.step()
    assert float(uniformity(x).detach()) < before - 1


def test_autocast_leaves_the_distances_in_single_precision():
    x = some(8, 16, torch.float32)
    plain = uniformity(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert uniformity(x) == plain
        half = uniformity(x.bfloat16())
    assert half.dtype == torch.float32 and half == uniformity(x.bfloat16().float())
