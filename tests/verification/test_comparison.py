"""Two systems on the same trials: all metrics on the same draws, and trials with changed decisions."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from idemvox.verification.comparison import changed_sides, compare, comparison_table, eer_difference
from idemvox.verification.metrics import eer, min_dcf


def speaker_trials(rng, speakers):
    names = np.repeat(np.arange(speakers), 3)
    a, b = np.triu_indices(len(names), 1)
    labels = names[a] == names[b]
    return rng.normal(size=len(a)) + 1.5 * labels, labels, names[a], names[b]


def test_all_metrics_use_the_same_draws():
    rng = np.random.default_rng(0)
    scores, labels, a, b = speaker_trials(rng, 9)
    scores = np.round(scores, 1)  # with ties
    other = scores + rng.normal(size=len(scores))
    found = compare(scores, other, labels, a, b, draws=25, seed=3)
    metrics = {
        "EER": lambda s, x: eer(s, x).value,
        "minDCF p=0.01": lambda s, x: min_dcf(s, x, 0.01),
        "minDCF p=0.05": lambda s, x: min_dcf(s, x, 0.05),
    }
    assert [difference.metric for difference in found.differences] == list(metrics)
    draw, drawn = np.random.default_rng(3), {name: [] for name in metrics}
    for _ in range(25):
        times = draw.multinomial(9, np.full(9, 1 / 9))
        repeats = np.where(labels, times[a], times[a] * times[b])
        for name, metric in metrics.items():
            one, two = (metric(np.repeat(s, repeats), np.repeat(labels, repeats)) for s in (scores, other))
            drawn[name].append((two - one, (two - one) / one))
    for difference in found.differences:
        metric = metrics[difference.metric]
        assert (difference.a, difference.b) == (metric(scores, labels), metric(other, labels))
        assert difference.difference == difference.b - difference.a
        low, high = np.percentile(drawn[difference.metric], (2.5, 97.5), axis=0)
        interval, relative = difference.interval, difference.relative_interval
        assert (interval.low, interval.high) == pytest.approx((low[0], high[0]), abs=1e-12)
        assert (relative.low, relative.high) == pytest.approx((low[1], high[1]), abs=1e-12)
    assert found.differences[0] == eer_difference(scores, other, labels, a, b, draws=25, seed=3)


def test_without_speakers_there_are_differences_but_no_intervals():
    scores, labels, _, _ = speaker_trials(np.random.default_rng(1), 6)
    found = compare(scores, scores - labels, labels).differences[1]
    assert found.interval is None and found.relative_interval is None and not found.excludes_zero
    assert str(found) == f"{found.difference:+.4f}, {100 * found.relative:+.1f} %"


def test_trials_with_changed_decisions_by_hand():
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    a = np.array([9, 8, 7, 1, 2, 3, 4, 6])  # EER 0.25 at threshold 6: wrong about trials 3 and 7
    b = np.array([9, 1, 2, 8, 3, 4, 5, 6])  # EER 0.5 at threshold 5: wrong about trials 1, 2, 6 and 7
    found = changed_sides(a, b, labels)
    assert (found.only_a, found.only_b) == (3, 1)
    assert found.p == pytest.approx(2 * (1 + 4) / 2**4)  # none or one of four, for either system
    back = changed_sides(b, a, labels)
    assert (back.only_a, back.only_b, back.p) == (found.only_b, found.only_a, found.p)
    same = changed_sides(a, a * 2.0 + 1, labels)  # another scale, another threshold, the same decisions
    assert (same.only_a, same.only_b, same.p) == (0, 0, 1)


def test_several_seeds_have_no_single_threshold():
    scores, labels, a, b = speaker_trials(np.random.default_rng(2), 6)
    assert compare([scores, scores], scores, labels, a, b, draws=5).changed is None
    assert compare(scores, scores, labels, a, b, draws=5).changed is not None


def test_the_table_states_which_is_better_and_what_p_means():
    rng = np.random.default_rng(4)
    scores, labels, a, b = speaker_trials(rng, 12)
    found = compare(scores, scores + labels, labels, a, b, draws=30)
    assert found.differences[0].difference < 0
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(comparison_table(found, "calls", "runs/simclr"))
    text = " ".join(console.export_text().split())
    for part in ("calls: against runs/simclr", "below 0: better", "exact binomial p =", "95 % intervals"):
        assert part in text
    for difference in found.differences:
        assert difference.absolute_text in text and difference.relative_text in text
    assert found.changed.only_b > found.changed.only_a
    assert f"{found.changed.only_b:,} trials; wrong where it is right: {found.changed.only_a:,}" in text
