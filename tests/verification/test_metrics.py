"""Metrics, compared with loops from the definitions, scikit-learn's curves and examples by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.errors import IdemvoxError
from idemvox.verification.counts import SortedTrials
from idemvox.verification.hull import hull_of
from idemvox.verification.llr import cllr, min_cllr
from idemvox.verification.metrics import Costs, act_dcf, det_curve, eer, error_rates, min_dcf

from . import definitions

# few distinct scores, so that nearly every list has ties across both labels
trial_lists = (
    st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40)
    .filter(lambda trials: len({label for _, label in trials}) == 2)
    .map(lambda trials: (np.array([s / 4 for s, _ in trials]), np.array([x for _, x in trials])))
)


@settings(max_examples=40)
@given(trial_lists)
def test_rates_equal_counts(trials):
    scores, labels = trials
    rates = error_rates(scores, labels)
    slow = np.array(definitions.rates(scores, labels))
    np.testing.assert_array_equal(rates.thresholds, slow[:, 0])
    np.testing.assert_allclose(rates.fnr, slow[:, 1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(rates.fpr, slow[:, 2], rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(trial_lists)
def test_eer_equals_both_definitions(trials):
    assert eer(*trials).value == pytest.approx(definitions.nearest_eer(*trials), abs=1e-12)
    interpolated = eer(*trials, method="interpolate")
    assert interpolated.value == pytest.approx(definitions.interpolated_eer(*trials), abs=1e-12)
    assert interpolated.value <= eer(*trials).value + 1e-12


@settings(max_examples=40)
@given(trial_lists, st.sampled_from([0.01, 0.05, 0.5, 0.9]), st.sampled_from([1.0, 10.0]))
def test_min_dcf_equals_a_loop(trials, p, c_miss):
    scores, labels = trials
    costs = [c_miss * p * fnr + (1 - p) * fpr for _, fnr, fpr in definitions.rates(scores, labels)]
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
def test_monotonic_maps_of_the_scores_only_change_the_threshold(trials, scale, shift):
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
def test_without_ties_eer_equals_the_toolkits(seed):
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
def test_impossible_lists_are_refused(scores, labels, says):
    for metric in (error_rates, eer, lambda s, x: min_dcf(s, x, 0.01)):
        with pytest.raises(IdemvoxError, match=says):
            metric(scores, labels)


def test_impossible_costs_are_refused():
    with pytest.raises(IdemvoxError, match="p_target"):
        min_dcf([0, 1], [0, 1], 0.0)
    with pytest.raises(IdemvoxError, match="unknown EER method"):
        eer([0, 1], [0, 1], "closest")


COSTS = [(0.01, 1.0, 1.0), (0.05, 1.0, 1.0), (0.5, 1.0, 1.0), (0.2, 10.0, 3.0)]


def score_lists(count, seed=0):
    """Lists of 4 to 60 trials: random, tied, separated, constant, reversed and of few targets."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        labels = rng.random(int(rng.integers(4, 61))) < rng.choice([0.1, 0.5, 0.9])
        labels[rng.choice(len(labels), 2, replace=False)] = [True, False]
        scores = 3 * rng.normal(size=len(labels)) + rng.choice([-2, 1, 3]) * labels
        kind = ("random", "tied", "separated", "constant", "float32")[number % 5]
        if kind == "tied":
            scores = np.round(scores)
        elif kind == "separated":
            scores = np.abs(scores) * np.where(labels, 1, -1)
        elif kind == "constant":
            scores = np.full(len(labels), scores[0])
        elif kind == "float32":
            scores = np.round(scores, 1).astype(np.float32)
        yield scores, labels


def test_a_thousand_lists_equal_the_definitions():
    for number, (scores, labels) in enumerate(score_lists(1000)):
        found = {
            "nearest": (eer(scores, labels).value, definitions.nearest_eer(scores, labels)),
            "interpolate": (
                eer(scores, labels, "interpolate").value,
                definitions.interpolated_eer(scores, labels),
            ),
            "hull": (eer(scores, labels, "hull").value, definitions.hull_eer(scores, labels)),
            "cllr": (cllr(scores, labels), definitions.cllr(scores, labels)),
            "minCllr": (min_cllr(scores, labels), definitions.min_cllr(scores, labels)),
        }
        for costs in COSTS:
            found[f"minDCF {costs}"] = (
                min_dcf(scores, labels, *costs),
                definitions.min_dcf(scores, labels, *costs),
            )
            found[f"actDCF {costs}"] = (
                act_dcf(scores, labels, *costs),
                definitions.act_dcf(scores, labels, *costs),
            )
        for name, (fast, slow) in found.items():
            assert abs(fast - slow) <= 1e-9, (number, name, fast, slow)
        assert found["hull"][0] <= found["interpolate"][0] + 1e-12
        assert found["minCllr"][0] <= found["cllr"][0] + 1e-12


def test_rates_equal_scikit_learns_curves():
    metrics = pytest.importorskip("sklearn.metrics")
    for scores, labels in score_lists(100, seed=1):
        rates = error_rates(scores, labels)
        fpr, tpr, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_allclose(rates.fpr, fpr[::-1], rtol=0, atol=1e-12)
        np.testing.assert_allclose(rates.fnr, 1 - tpr[::-1], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(rates.thresholds, thresholds[::-1])


def test_llrs_equal_scikit_learns_isotonic_fit():
    isotonic = pytest.importorskip("sklearn.isotonic")
    for scores, labels in score_lists(100, seed=2):
        hull = hull_of(SortedTrials(scores, labels))
        targets, impostors = hull.pools
        pooled = np.repeat(targets / (targets + impostors), targets + impostors)  # by rising score
        fit = isotonic.IsotonicRegression(y_min=0, y_max=1).fit_transform(
            scores.astype(float), labels.astype(float)
        )
        np.testing.assert_allclose(pooled, np.sort(fit), rtol=0, atol=1e-9)
        assert np.all(np.diff(hull.llrs) > 0)


def test_the_order_of_trials_changes_no_bit_of_any_metric():
    rng = np.random.default_rng(3)
    for scores, labels in score_lists(50, seed=4):
        order = rng.permutation(len(scores))
        for metric in (
            cllr,
            min_cllr,
            lambda s, x: act_dcf(s, x, 0.05),
            lambda s, x: eer(s, x, "hull").value,
        ):
            assert metric(scores[order], labels[order]) == metric(scores, labels)


def test_block_sizes_change_nothing():
    for scores, labels in score_lists(50, seed=5):
        whole, parts = SortedTrials(scores, labels), SortedTrials(scores, labels)
        parts.block = 3
        for one, other in zip(
            map(np.concatenate, zip(*whole.corners(), strict=True)),
            map(np.concatenate, zip(*parts.corners(), strict=True)),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
        one, other = hull_of(whole), hull_of(parts)
        np.testing.assert_array_equal(one.missed, other.missed)
        np.testing.assert_array_equal(one.accepted, other.accepted)


def test_a_curve_on_which_parallel_pooling_is_slow():
    """Two convex arcs that meet in a dent lose two points a round; the hull takes the rest one by one."""
    steps = np.arange(1, 200)
    # ever fewer impostors from target to target: convex; then the same again
    counts = np.concatenate([steps[::-1], steps[::-1]])
    labels = np.concatenate([np.append(np.zeros(n, bool), True) for n in counts])
    scores = np.arange(len(labels), dtype=float)
    rates = error_rates(scores, labels)
    hull = hull_of(SortedTrials(scores, labels))
    fnr, fpr = hull.missed / labels.sum(), hull.accepted / (~labels).sum()
    assert len(hull.missed) > 100
    line = np.interp(-rates.fpr, -fpr, fnr)  # the hull is below every point of the curve
    assert np.all((rates.fnr >= line - 1e-12) | (rates.fpr == 0))
    assert np.all(np.diff(hull.llrs) > 0)


def test_examples_by_hand():
    even, separated = (np.zeros(10), np.arange(10) % 2), ([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    assert cllr(*even) == pytest.approx(1) and min_cllr(*even) == pytest.approx(1)
    assert eer(*even, method="hull").value == 0.5
    assert min_cllr(*separated) == 0 and eer(*separated, method="hull").value == 0
    # odds of 3 for the target and 1/3 for the impostor: log2(1 + 1/3) bits each
    assert cllr([math.log(3), -math.log(3)], [1, 0]) == pytest.approx(math.log2(4 / 3))
    # impostor, target, impostor, target: PAV pools the middle two; the outer two are certain
    assert min_cllr([1, 2, 3, 4], [0, 1, 0, 1]) == pytest.approx(0.5)
    # the hull runs from (FPR 0.5, FNR 0) to (0, 0.5), and crosses at 0.25 where the steps cross at 0.5
    assert eer([1, 2, 3, 4], [0, 1, 0, 1], "hull").value == 0.25
    # p = 0.1, a miss costs 9: the threshold is log(0.9 / 0.9) = 0; one of two targets lies below it
    assert Costs(0.1, 9.0).threshold == pytest.approx(0)
    assert act_dcf([-1.0, 1.0, -0.5, 2.0], [0, 0, 1, 1], 0.1, 9.0) == pytest.approx(0.5 + 0.5)


def test_a_score_at_the_bayes_threshold_is_accepted():
    at = Costs(0.01).threshold
    below = np.nextafter(at, 0)
    assert act_dcf([at, 0.0], [1, 0], 0.01) == 0 and act_dcf([below, 0.0], [1, 0], 0.01) == 1
    for scores in (np.float32([at, 0]), np.float32([np.nextafter(np.float32(at), np.float32(0)), 0])):
        assert act_dcf(scores, [1, 0], 0.01) == act_dcf(scores.astype(float), [1, 0], 0.01)


def test_wrong_ratios_cost_more_than_no_ratios():
    assert cllr([-800.0, 800.0], [1, 0]) == pytest.approx(800 / math.log(2))
    assert act_dcf([5.0, 5.0], [0, 1], 0.01) == pytest.approx(99)
    assert min_cllr([-800.0, 800.0], [1, 0]) == pytest.approx(1)


def test_det_curve_keeps_short_lists_and_thins_long_ones():
    for scores, labels in score_lists(20, seed=6):
        curve, rates = det_curve(scores, labels), error_rates(scores, labels)
        np.testing.assert_array_equal(curve.thresholds, rates.thresholds)
        np.testing.assert_array_equal(curve.fnr, rates.fnr)
    rng = np.random.default_rng(7)
    labels = rng.random(50_000) < 0.3
    scores = rng.normal(size=len(labels)) + 2 * labels
    curve, rates = det_curve(scores, labels, points=100), error_rates(scores, labels)
    assert len(curve.thresholds) <= 201
    at = np.searchsorted(rates.thresholds, curve.thresholds)
    np.testing.assert_array_equal(curve.fnr, rates.fnr[at])
    np.testing.assert_array_equal(curve.fpr, rates.fpr[at])
    fpr, fnr = curve.probits
    middle = (np.abs(fpr) < 2) & (np.abs(fnr) < 2)
    assert np.all(np.hypot(np.diff(fpr[middle]), np.diff(fnr[middle])) < 0.3)
    # equal normal distributions give a line of slope -1 on these axes, here through (-2, 0) and (0, -2)
    np.testing.assert_allclose(fpr[middle] + fnr[middle], -2, atol=0.15)


@pytest.mark.parametrize("metric", [cllr, min_cllr, det_curve, lambda s, x: act_dcf(s, x, 0.5)])
def test_lists_of_one_class_have_no_metrics(metric):
    for labels in ([1, 1], [0, 0]):
        with pytest.raises(IdemvoxError, match="error rates need"):
            metric([0.1, 0.2], labels)
    with pytest.raises(IdemvoxError, match="NaN"):
        metric([0.1, float("nan")], [0, 1])


@pytest.mark.parametrize("costs", [(0.0, 1, 1), (1.0, 1, 1), (0.5, 0, 1), (0.5, 1, -1), (0.5, 1, math.inf)])
def test_costs_out_of_range_are_refused(costs):
    with pytest.raises(IdemvoxError, match="p_target"):
        act_dcf([0.0, 1.0], [0, 1], *costs)
