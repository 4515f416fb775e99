"""EM of a mixture, compared with loops; the likelihood never decreases."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from idemvox.encoders.mixture import Mixture
from idemvox.errors import IdemvoxError
from idemvox.training.em import mixture as module
from idemvox.training.em.mixture import FLOOR, fit_mixture, improve


def clusters(count: int = 900, size: int = 3) -> torch.Tensor:
    torch.manual_seed(0)
    centres, shapes = 4 * torch.randn(3, size), torch.randn(3, size, size)
    of = torch.arange(count) % 3
    return centres[of] + (shapes[of] @ torch.randn(count, size, 1)).squeeze(-1)


def covariance(m: Mixture, c: int) -> torch.Tensor:
    factor = m.factors[c].double() if m.full else torch.diag(m.factors[c].double())
    return torch.linalg.inv(factor @ factor.T)


@pytest.mark.parametrize("full", [False, True])
def test_the_likelihood_never_decreases(full):
    values: list[float] = []
    fit_mixture(clusters(), 6, full=full, iterations=10, tell=values.append)
    assert len(values) == (20 if full else 10)
    assert all(b >= a - 1e-5 for a, b in itertools.pairwise(values)) and values[-1] > values[0] + 0.5
    if full:
        assert values[-1] > values[9] + 0.05  # the clusters are oblique


@pytest.mark.parametrize("full", [False, True])
def test_an_iteration_equals_a_loop(full, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 50)
    x = clusters(120)
    before = fit_mixture(x, 3, full=full, iterations=2)
    after, value = improve(before, x, x.std(0, correction=0))
    normals = [MultivariateNormal(before.means[c].double(), covariance(before, c)) for c in range(3)]
    joint = torch.stack([normals[c].log_prob(x.double()) + before.weights[c].log() for c in range(3)], 1)
    assert value == pytest.approx(float(joint.logsumexp(1).mean()), abs=1e-4)
    posterior = joint.softmax(1)
    for c in range(3):
        share = posterior[:, c] / posterior[:, c].sum()
        mean = sum(p * frame for p, frame in zip(share, x.double(), strict=True))
        spread = sum(
            p * torch.outer(frame - mean, frame - mean) for p, frame in zip(share, x.double(), strict=True)
        )
        assert float(after.weights[c]) == pytest.approx(float(posterior[:, c].mean()), abs=1e-4)
        torch.testing.assert_close(after.means[c].double(), mean, atol=1e-3, rtol=1e-3)
        wanted = spread if full else torch.diag(spread.diagonal())
        torch.testing.assert_close(covariance(after, c), wanted, atol=1e-2, rtol=1e-2)


def test_variances_have_a_floor_along_every_direction():
    x = clusters(300)
    x[::3] = x[0]  # the same point many times
    spread = x.std(0, correction=0)
    for full in (False, True):
        fitted = fit_mixture(x, 3, full=full, iterations=8)
        least = [
            torch.linalg.eigvalsh(covariance(fitted, c) / torch.outer(spread, spread).double()).min()
            for c in range(3)
        ]
        assert min(least) == pytest.approx(FLOOR, rel=1e-2)


def test_an_unused_component_stays_as_it_is():
    x = clusters(300)
    far = Mixture(torch.tensor([0.5, 0.5]), torch.stack([x.mean(0), x.mean(0) + 1e3]), torch.ones(2, 3))
    after, _ = improve(far, x, x.std(0))
    assert torch.equal(after.means[1], far.means[1]) and 0 < after.weights[1] < 1e-4
    assert math.isfinite(improve(after, x, x.std(0))[1])


def test_a_seed_determines_the_mixture_and_too_few_frames_are_refused():
    x = clusters()
    a, b, c = (fit_mixture(x, 4, iterations=3, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a.means, b.means) and not torch.equal(a.means, c.means)
    with pytest.raises(IdemvoxError, match=r"900 frames .* 901 Gaussians: lower encoder\.components"):
        fit_mixture(x, 901)
