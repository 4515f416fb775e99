"""Gates on losses, counted one by one; mixtures as scikit-learn fits them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from idemvox.losses.gate import (
    LogMixture,
    corrected_mean,
    crossing,
    fit_log_mixture,
    kept_mean,
    low_share,
)


def two_kinds(seed: int, low: int = 300, high: int = 150) -> torch.Tensor:
    """Losses of right labels, about 0.1, and of wrong ones, about 8."""
    generator = torch.Generator().manual_seed(seed)
    right = torch.randn(low, generator=generator, dtype=torch.float64) * 0.8 - 2.3
    wrong = torch.randn(high, generator=generator, dtype=torch.float64) * 0.3 + 2.1
    return torch.cat([right, wrong]).exp()[torch.randperm(low + high, generator=generator)]


def density(mixture: LogMixture, which: int, x: float) -> float:
    w, m, v = (float(part[which]) for part in mixture)
    return w * math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)


def mixture(*values: tuple[float, float]) -> LogMixture:
    return LogMixture(*(torch.tensor(pair, dtype=torch.float64) for pair in values))


@pytest.mark.parametrize("seed", range(3))
def test_the_mixture_is_scikit_learns(seed):
    losses = two_kinds(seed)
    found = fit_log_mixture(losses, tolerance=1e-12)
    theirs = GaussianMixture(2, random_state=0, tol=1e-12, max_iter=5000, reg_covar=0).fit(
        losses.log().numpy()[:, None]
    )
    order = theirs.means_[:, 0].argsort()
    for ours, expected in zip(
        found, (theirs.weights_, theirs.means_[:, 0], theirs.covariances_[:, 0, 0]), strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), expected[order], rtol=1e-4, atol=1e-5)


def test_the_mixture_does_not_depend_on_the_order_or_on_losses_that_are_no_numbers():
    losses = two_kinds(0)
    bad = torch.tensor([math.nan, math.inf, 0.0, -1.0], dtype=torch.float64)
    one, other = fit_log_mixture(losses), fit_log_mixture(torch.cat([bad, losses.flip(0)]))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("losses", [[], [1.0], [2.0] * 50, [1.0, 2.0, 3.0], [math.nan] * 9])
def test_too_few_losses_give_no_mixture(losses):
    assert fit_log_mixture(torch.tensor(losses)) is None


@pytest.mark.parametrize(
    "values",
    [
        ((0.7, 0.3), (-2.0, 2.0), (1.0, 0.1)),
        ((0.5, 0.5), (-1.0, 1.0), (0.5, 0.5)),  # equal variances: the equation is linear
        ((0.1, 0.9), (-3.0, 0.5), (0.2, 2.0)),
        ((0.5, 0.5), (-1.0, 1.0), (0.5, 0.5 + 1e-12)),
    ],
)
def test_the_weighted_densities_are_equal_at_the_gate(values):
    both = mixture(*values)
    gate = crossing(both)
    assert values[1][0] < gate < values[1][1]
    assert density(both, 0, gate) == pytest.approx(density(both, 1, gate), rel=1e-6)
    inside = np.linspace(*values[1], 2000)
    signs = np.sign([density(both, 0, x) - density(both, 1, x) for x in inside])
    changes = np.flatnonzero(np.diff(signs))
    assert len(changes) == 1 and inside[changes[0]] <= gate <= inside[changes[0] + 1]


@pytest.mark.parametrize(
    ("values", "crossings"),
    [
        (((0.001, 0.999), (0.0, 0.5), (1.0, 1.0)), 0),  # the first is nowhere the denser between the means
        (((0.999, 0.001), (0.0, 0.5), (1.0, 1.0)), 0),
        (((0.75, 0.25), (0.0, 1.0), (9.0, 0.04)), 1),
        (((0.97, 0.03), (0.0, 1.0), (9.0, 0.04)), 0),
    ],
)
def test_no_gate_without_exactly_one_crossing(values, crossings):
    """Trap 35."""
    both = mixture(*values)
    inside = np.linspace(*values[1], 5000)
    signs = np.sign([density(both, 0, x) - density(both, 1, x) for x in inside])
    assert np.count_nonzero(np.diff(signs)) == crossings
    assert (crossing(both) is not None) == (crossings == 1)


def test_two_crossings_between_the_means_give_no_gate():
    both = mixture((0.05, 0.95), (0.0, 2.0), (0.01, 9.0))
    wide = np.linspace(-1, 2, 5000)
    signs = np.sign([density(both, 0, x) - density(both, 1, x) for x in wide])
    assert np.count_nonzero(np.diff(signs)) == 2  # one of them below the first mean
    assert 0 < crossing(both) < 2
    narrow = mixture((0.9, 0.1), (0.0, 0.2), (4.0, 0.01))  # the narrow one peaks beside the first mean
    inside = np.linspace(0.0, 0.2, 5000)
    signs = np.sign([density(narrow, 0, x) - density(narrow, 1, x) for x in inside])
    assert (crossing(narrow) is None) == (np.count_nonzero(np.diff(signs)) != 1)


def test_the_share_of_low_losses_is_bayes_rule_and_never_falls_towards_zero():
    losses = two_kinds(1)
    found = fit_log_mixture(losses)
    share = low_share(losses, found)
    for loss, value in zip(losses[:50].tolist(), share.tolist(), strict=False):
        x = max(math.log(loss), float(found.means[0]))
        expected = density(found, 0, x) / (density(found, 0, x) + density(found, 1, x))
        assert value == pytest.approx(expected, abs=1e-9)
    between = torch.linspace(1e-6, float(found.means[0].exp()), 100, dtype=torch.float64)
    assert (low_share(between, found) > 0.5).all()


@pytest.mark.parametrize("seed", range(3))
def test_means_counted_one_by_one(seed):
    generator = torch.Generator().manual_seed(seed)
    losses, predicted = torch.rand(2, 9, generator=generator, dtype=torch.float64)
    keep, sure = torch.rand(2, 9, generator=generator) < 0.5
    kept = [float(loss) for loss, yes in zip(losses, keep, strict=True) if yes]
    assert float(kept_mean(losses, keep)) == pytest.approx(sum(kept) / max(len(kept), 1))
    total = 0.0
    for n in range(9):
        total += float(losses[n]) if keep[n] else float(predicted[n]) if sure[n] else 0.0
    assert float(corrected_mean(losses, keep, predicted, sure)) == pytest.approx(total / 9)
    weights = torch.rand(9, generator=generator, dtype=torch.float64)
    assert float(kept_mean(losses, weights)) == pytest.approx(
        float((losses * weights).sum() / max(float(weights.sum()), 1))
    )


def test_a_gate_that_keeps_nothing_is_no_division_by_zero():
    """Trap 34."""
    losses = torch.tensor([2.0, 3.0], requires_grad=True)
    loss = kept_mean(losses, torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0 and losses.grad.tolist() == [0, 0]


def test_a_loss_outside_the_gate_may_be_infinite():
    losses = torch.tensor([2.0, math.inf])
    keep = torch.tensor([True, False])
    assert float(kept_mean(losses, keep)) == 2
    assert float(corrected_mean(losses, keep, losses, torch.tensor([True, False]))) == 1


def test_gradients():
    losses, predicted = torch.rand(2, 6, dtype=torch.float64).unbind(0)
    losses.requires_grad_(), predicted.requires_grad_()
    keep, sure = torch.tensor([True, False] * 3), torch.tensor([True, True, False] * 2)
    assert torch.autograd.gradcheck(lambda a: kept_mean(a, keep), losses)
    assert torch.autograd.gradcheck(lambda a, b: corrected_mean(a, keep, b, sure), (losses, predicted))
