"""VICReg and Barlow Twins, compared with loops written from their formulas."""

from __future__ import annotations

import math
from statistics import fmean, pstdev, variance

import pytest
import torch
from torch import Tensor

from idemvox.losses import redundancy
from idemvox.losses.redundancy import barlow_twins, vicreg


@pytest.fixture
def views() -> tuple[Tensor, Tensor]:
    a = 0.7 * torch.randn(7, 5, dtype=torch.float64) + torch.arange(5)
    return a, a + torch.randn(7, 5, dtype=torch.float64)


def slow_variance(x: Tensor) -> float:
    return fmean(max(0.0, 1 - math.sqrt(variance(column.tolist()) + 1e-4)) for column in x.T)


def slow_covariance(x: Tensor) -> float:
    rows, total = x.tolist(), 0.0
    means = [fmean(column) for column in zip(*rows, strict=True)]
    for d in range(len(means)):
        for e in range(len(means)):
            if d != e:
                shared = sum((row[d] - means[d]) * (row[e] - means[e]) for row in rows) / (len(rows) - 1)
                total += shared**2
    return total / len(means)


def test_vicreg_equals_the_formula(views):
    a, b = views
    invariance = fmean((p - q) ** 2 for x, y in zip(a, b, strict=True) for p, q in zip(x, y, strict=True))
    found = vicreg(a, b)
    assert float(found.invariance) == pytest.approx(float(invariance))
    assert float(found.variance) == pytest.approx(slow_variance(a) + slow_variance(b))
    assert float(found.variance) > 0
    assert float(found.covariance) == pytest.approx(slow_covariance(a) + slow_covariance(b))


@pytest.mark.parametrize("weight", [0.005, 0.5])
def test_barlow_twins_equals_the_formula(views, weight):
    columns = [[column.tolist() for column in view.T] for view in views]
    expected = 0.0
    for d, p in enumerate(columns[0]):
        for e, q in enumerate(columns[1]):
            product = fmean((x - fmean(p)) * (y - fmean(q)) for x, y in zip(p, q, strict=True))
            scale = math.sqrt(pstdev(p) ** 2 + 1e-5) * math.sqrt(pstdev(q) ** 2 + 1e-5)
            correlation = product / scale
            expected += (1 - correlation) ** 2 if d == e else weight * correlation**2
    assert float(barlow_twins(*views, weight)) == pytest.approx(expected)


def test_constant_embeddings_cost_most_and_white_ones_least():
    white = torch.randn(64, 6, dtype=torch.float64)
    white = white - white.mean(0)
    white = white @ torch.linalg.inv(torch.linalg.cholesky(white.T @ white / 63)).T
    constant = torch.ones(64, 6, dtype=torch.float64)
    assert float(vicreg(constant, constant).variance) == pytest.approx(2 * 0.99)
    assert float(vicreg(white, white).variance) == pytest.approx(0, abs=1e-4)
    assert float(vicreg(white, white).covariance) == pytest.approx(0, abs=1e-12)
    assert float(barlow_twins(white, white)) == pytest.approx(0, abs=1e-6)
    assert float(barlow_twins(constant, constant)) == pytest.approx(6)


@pytest.mark.parametrize("name", ["variance", "covariance"])
def test_gradients_of_the_terms(views, name):
    assert torch.autograd.gradcheck(getattr(redundancy, name), views[0].requires_grad_())


def test_gradients_of_both_losses(views):
    a, b = (x.requires_grad_() for x in views)
    assert torch.autograd.gradcheck(lambda p, q: tuple(vicreg(p, q)), (a, b))
    assert torch.autograd.gradcheck(barlow_twins, (a, b))


def test_autocast_changes_nothing(views):
    a, b = (x.float() for x in views)
    outside = [*vicreg(a, b), barlow_twins(a, b)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = [*vicreg(a, b), barlow_twins(a, b)]
    assert all(torch.equal(x, y) for x, y in zip(outside, inside, strict=True))
