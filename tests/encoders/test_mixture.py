"""Mixtures, compared with torch's distributions."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal

from idemvox.encoders.mixture import Mixture, expand, from_upper_triangle, upper_triangle


def mixture(full: bool, components: int = 3, size: int = 4) -> Mixture:
    torch.manual_seed(0)
    factors = torch.rand(components, size) + 0.5
    if full:
        factors = torch.randn(components, size, size).tril(-1) + torch.diag_embed(factors)
    return Mixture(torch.rand(components).softmax(0), torch.randn(components, size), factors)


def precision(m: Mixture, c: int) -> torch.Tensor:
    return m.factors[c] @ m.factors[c].T if m.full else torch.diag(m.factors[c] ** 2)


@pytest.mark.parametrize("full", [False, True])
def test_log_joint_is_weight_times_density(full):
    m, x = mixture(full), torch.randn(6, 4)
    found = m.log_joint(expand(x, full))
    for c in range(3):
        normal = MultivariateNormal(m.means[c], precision_matrix=precision(m, c))
        torch.testing.assert_close(found[:, c], m.weights[c].log() + normal.log_prob(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("full", [False, True])
def test_whitened_frames_of_a_component_are_standard_normal(full):
    m = mixture(full)
    draws = MultivariateNormal(m.means[1], precision_matrix=precision(m, 1)).sample((20_000,))
    one, none = torch.tensor([0.0, 1, 0]), torch.zeros(4)
    white = torch.stack([m.whiten(one, torch.stack([none, x, none]))[1] for x in draws[:5]])
    factor = m.factors[1] if full else torch.diag(m.factors[1])
    torch.testing.assert_close(white, (draws[:5] - m.means[1]) @ factor, atol=1e-5, rtol=1e-4)
    counts, sums = torch.full((3,), 20_000.0), draws.sum(0).expand(3, -1)
    assert m.whiten(counts, sums)[1].abs().max() < 4 * 20_000**0.5
    torch.testing.assert_close(((draws - m.means[1]) @ factor).T.cov(), torch.eye(4), atol=0.05, rtol=0)


def test_the_upper_triangle_is_packed():
    x = torch.randn(2, 5, 5)
    x = x + x.mT
    assert upper_triangle(x).shape == (2, 15) and torch.equal(from_upper_triangle(upper_triangle(x)), x)
    assert upper_triangle(torch.tensor([[1, 2], [2, 3]])).tolist() == [1, 2, 3]
