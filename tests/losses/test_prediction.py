"""Losses of prediction, compared with loops."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import pytest
import torch

from idemvox.losses.prediction import negative_cosine, spread, unit_distance


def test_equals_the_negative_cosine_and_stops_the_targets_gradient():
    p, z = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = [
        -sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
        for a, b in zip(p.tolist(), z.tolist(), strict=True)
    ]
    assert negative_cosine(p, z, "none").tolist() == pytest.approx(expected)
    loss = negative_cosine(p, z)
    assert float(loss.detach()) == pytest.approx(fmean(expected))
    loss.backward()
    assert p.grad.any() and z.grad is None
    fixed = z.detach()
    assert torch.autograd.gradcheck(lambda x: negative_cosine(x, fixed), p)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert negative_cosine(p.float(), z.float()).dtype == torch.float32


def test_spread_is_1_on_the_sphere_and_0_in_a_collapse():
    x = torch.randn(5, 3, dtype=torch.float64)
    rows = [[value / math.hypot(*row) for value in row] for row in x.tolist()]
    expected = fmean(stdev(column) for column in zip(*rows, strict=True)) * math.sqrt(3)
    assert float(spread(x)) == pytest.approx(expected)
    assert float(spread(torch.randn(4000, 16))) == pytest.approx(1, abs=0.02)
    assert float(spread(torch.ones(7, 3))) == 0


def test_unit_distance_only_depends_on_directions():
    a, b = (torch.randn(6, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    expected = [
        sum((x / math.hypot(*p) - y / math.hypot(*q)) ** 2 for x, y in zip(p, q, strict=True))
        for p, q in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert unit_distance(a, b, "none").tolist() == pytest.approx(expected)
    assert float(unit_distance(a, b).detach()) == pytest.approx(fmean(expected))
    assert torch.autograd.gradcheck(unit_distance, (a, b))
