"""Metrics against loops written straight from the definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.errors import IdemvoxError
from idemvox.verification.metrics import eer, error_rates, min_dcf

# few distinct scores, so that nearly every list has ties across both labels
trial_lists = (
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40)
    .filter(lambda trials: len({label for _, label in trials}) == 2)
    .map(lambda trials: (np.array([s / 4 for s, _ in trials]), np.array([x for _, x in trials])))
)


def slow_points(scores, labels):
    """[(threshold, fnr, fpr)] by counting."""
    points = []
    for threshold in [*sorted(set(scores.tolist())), float("inf")]:
        missed = sum(1 for s, x in zip(scores, labels, strict=True) if x and s < threshold)
        accepted = sum(1 for s, x in zip(scores, labels, strict=True) if not x and s >= threshold)
        points.append((threshold, missed / labels.sum(), accepted / (~labels).sum()))
    return points


def slow_eer(scores, labels):
    best = None
    for _, fnr, fpr in slow_points(scores, labels):  # thresholds rise: <= keeps the higher of two
        if best is None or round(abs(fnr - fpr), 9) <= best[0]:
            best = (round(abs(fnr - fpr), 9), max(fnr, fpr))
    return best[1]


def slow_interpolated(scores, labels):
    points = slow_points(scores, labels)
    for (_, fnr0, fpr0), (_, fnr1, fpr1) in itertools.pairwise(points):
        if fnr0 <= fpr0 and fnr1 >= fpr1:
            # where fnr0 + a (fnr1 - fnr0) = fpr0 + a (fpr1 - fpr0)
            a = (fpr0 - fnr0) / ((fnr1 - fnr0) - (fpr1 - fpr0))
            return fnr0 + a * (fnr1 - fnr0)
    raise AssertionError("no crossing")


@settings(max_examples=40)
@given(trial_lists)
def test_rates_equal_counting(trials):
    scores, labels = trials
    rates = error_rates(scores, labels)
    slow = np.array(slow_points(scores, labels))
    np.testing.assert_array_equal(rates.thresholds, slow[:, 0])
    np.testing.assert_allclose(rates.fnr, slow[:, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(rates.fpr, slow[:, 2], rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(trial_lists)
def test_eer_equals_both_definitions(trials):
    assert eer(*trials).value == pytest.approx(slow_eer(*trials), abs=1e-12)
    interpolated = eer(*trials, method="interpolate")
    assert interpolated.value == pytest.approx(slow_interpolated(*trials), abs=1e-12)
    assert interpolated.value <= eer(*trials).value + 1e-12


@settings(max_examples=40)
@given(trial_lists, st.sampled_from([0.01, 0.05, 0.5, 0.9]), st.sampled_from([1.0, 10.0]))
def test_min_dcf_equals_loop(trials, p, c_miss):
    scores, labels = trials
    costs = [c_miss * p * fnr + (1 - p) * fpr for _, fnr, fpr in slow_points(scores, labels)]
    assert min_dcf(scores, labels, p, c_miss) == pytest.approx(min(costs) / min(c_miss * p, 1 - p))
    assert 0 <= min_dcf(scores, labels, p, c_miss) <= 1 + 1e-12


@settings(max_examples=40)
@given(trial_lists, st.randoms(use_true_random=False))
def test_order_of_trials_changes_nothing(trials, random):
    scores, labels = trials
    order = list(range(len(scores)))
    random.shuffle(order)
    for method in ("nearest", "interpolate"):
        assert eer(scores[order], labels[order], method) == eer(scores, labels, method)
    assert min_dcf(scores[order], labels[order], 0.05) == min_dcf(scores, labels, 0.05)


@settings(max_examples=40)
@given(trial_lists, st.sampled_from([0.5, 8.0]), st.sampled_from([-2.0, 16.0]))
def test_rising_maps_of_the_scores_change_only_the_threshold(trials, scale, shift):
    scores, labels = trials
    for method in ("nearest", "interpolate"):
        a, b = eer(scores, labels, method), eer(scores * scale + shift, labels, method)
        assert b.value == a.value
        assert b.threshold == pytest.approx(a.threshold * scale + shift)
    assert min_dcf(scores * scale + shift, labels, 0.01) == min_dcf(scores, labels, 0.01)


@settings(max_examples=40)
@given(trial_lists)
def test_threshold_reproduces_the_rate(trials):
    scores, labels = trials
    found = eer(scores, labels)
    fnr, fpr = np.mean(scores[labels] < found.threshold), np.mean(scores[~labels] >= found.threshold)
    assert np.isfinite(found.threshold)
    assert max(fnr, fpr) == pytest.approx(found.value)


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_the_toolkits_way_without_ties(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.random(50) < 0.4
    labels[:2] = [True, False]
    scores = rng.normal(size=50) + labels
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    nearest = np.argmin(np.round(np.abs(1 - tpr - fpr), 9))
    assert eer(scores, labels).value == pytest.approx(max((1 - tpr)[nearest], fpr[nearest]))


def test_known_cases():
    perfect = ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert eer(*perfect).value == 0 and min_dcf(*perfect, 0.01) == 0
    reverse = ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1])
    assert eer(*reverse).value == 1 and min_dcf(*reverse, 0.01) == 1
    assert eer([1, 2, 3, 4], [0, 1, 0, 1]).value == 0.5
    constant = (np.zeros(10), np.arange(10) % 2)
    assert eer(*constant, method="interpolate").value == 0.5
    assert eer(*constant).value == 1  # no threshold separates anything: the larger of (0, 1)
    # one target of two below nine of ten impostors, p = 0.5: accept only the top score -> 0.5 * 0.5 / 0.5
    scores = [*range(10), 0.5, 20]
    assert min_dcf(scores, [0] * 10 + [1, 1], 0.5) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "labels", "says"),
    [
        ([0.1, 0.2], [1, 1], "impostor"),
        ([0.1, 0.2], [0, 0], "target"),
        ([], [], "all 0 trials"),
        ([0.1, float("nan")], [0, 1], "NaN"),
        ([0.1, float("inf")], [0, 1], "infinite"),
        ([0.1, 0.2], [0, 2], "labels must be 1"),
        ([0.1, 0.2, 0.3], [0, 1], "one score and one label"),
    ],
)
def test_refuses(scores, labels, says):
    for metric in (error_rates, eer, lambda s, x: min_dcf(s, x, 0.01)):
        with pytest.raises(IdemvoxError, match=says):
            metric(scores, labels)


def test_refuses_senseless_costs():
    with pytest.raises(IdemvoxError, match="p_target"):
        min_dcf([0, 1], [0, 1], 0.0)
    with pytest.raises(IdemvoxError, match="unknown EER method"):
        eer([0, 1], [0, 1], "hull")
