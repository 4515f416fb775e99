"""Intervals by resampling speakers, compared with repeating trials as often as their speakers are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.errors import IdemvoxError
from idemvox.verification.bootstrap import eer_interval, resampled_eers
from idemvox.verification.comparison import eer_difference
from idemvox.verification.metrics import eer


def speaker_trials(rng, speakers, spread):
    """All pairs of 3 vectors per speaker; each speaker has an offset of its own on its target scores."""
    names = np.repeat(np.arange(speakers), 3)
    a, b = np.triu_indices(len(names), 1)
    labels = names[a] == names[b]
    offset = rng.normal(size=speakers) * spread
    scores = rng.normal(size=len(a)) + labels * (2 + offset[names[a]])
    return scores, labels, names[a], names[b]


def test_interval_equals_repeating_the_trials():
    rng = np.random.default_rng(3)
    scores, labels, a, b = speaker_trials(rng, 4, 0.0)
    draw = np.random.default_rng(7)  # the same first draw as the function's
    times = draw.multinomial(4, np.full(4, 0.25))
    repeats = [times[i] if x else times[i] * times[j] for i, j, x in zip(a, b, labels, strict=True)]
    one = eer_interval(scores, labels, a, b, draws=1, seed=7)
    assert one.low == one.high == eer(np.repeat(scores, repeats), np.repeat(labels, repeats)).value


def test_interval_contains_the_eer_is_repeatable_and_narrows_with_speakers():
    rng = np.random.default_rng(0)
    widths = []
    for speakers in (6, 60):
        trials = speaker_trials(rng, speakers, 1.0)
        interval = eer_interval(*trials, draws=60)
        assert interval == eer_interval(*trials, draws=60)
        assert interval != eer_interval(*trials, draws=60, seed=1)
        assert interval.low <= eer(*trials[:2]).value <= interval.high
        widths.append(interval.high - interval.low)
    assert widths[1] < widths[0]


def test_speaker_names_may_be_strings_and_must_fit_the_labels():
    trials = speaker_trials(np.random.default_rng(1), 5, 0.0)
    named = (*trials[:2], [f"s{i}" for i in trials[2]], [f"s{i}" for i in trials[3]])
    assert eer_interval(*named, draws=10) == eer_interval(*trials, draws=10)
    with pytest.raises(IdemvoxError, match="contradict"):
        eer_interval(trials[0], ~trials[1], *trials[2:])
    with pytest.raises(IdemvoxError, match="per trial"):
        eer_interval(*trials[:2], trials[2][1:], trials[3])


def repeated_eer(scores, labels, a, b, times):
    """EER of a list in which each trial is repeated by its count."""
    repeats = [times[i] if x else times[i] * times[j] for i, j, x in zip(a, b, labels, strict=True)]
    return eer(np.repeat(scores, repeats), np.repeat(labels, repeats)).value


def draws_of(speakers, draws, seed):
    rng = np.random.default_rng(seed)
    return [rng.multinomial(speakers, np.full(speakers, 1 / speakers)) for _ in range(draws)]


def test_every_system_sees_the_same_draws():
    rng = np.random.default_rng(5)
    scores, labels, a, b = speaker_trials(rng, 8, 1.0)
    systems = [scores, -scores, np.round(scores), rng.normal(size=len(scores))]
    found = resampled_eers(systems, labels, a, b, draws=6, seed=2)
    expected = [[repeated_eer(s, labels, a, b, times) for s in systems] for times in draws_of(8, 6, 2)]
    assert found.tolist() == expected


def test_draws_without_targets_are_drawn_again():
    """Of six speakers, only one has targets, so two draws in five have none."""
    names = np.array([0, 0, 1, 2, 3, 4, 5])
    a, b = np.triu_indices(len(names), 1)
    labels = names[a] == names[b]
    scores = np.random.default_rng(0).normal(size=len(a))
    found = resampled_eers([scores], labels, names[a], names[b], draws=20, seed=0)[:, 0]
    usable = [times for times in draws_of(6, 60, 0) if times[0] and times[0] < 6]
    assert len(usable) > 20
    assert found.tolist() == [repeated_eer(scores, labels, names[a], names[b], t) for t in usable[:20]]


def test_difference_equals_a_loop_over_draws_and_seeds():
    rng = np.random.default_rng(6)
    scores, labels, a, b = speaker_trials(rng, 10, 1.0)
    system_a = scores + rng.normal(size=(3, len(scores)))
    system_b = scores + 0.5 * rng.normal(size=(2, len(scores)))
    found = eer_difference(system_a, system_b, labels, a, b, draws=50, seed=4)

    means = []
    for times in draws_of(10, 50, 4):
        pair = [
            sum(repeated_eer(seed, labels, a, b, times) for seed in system) / len(system)
            for system in (system_a, system_b)
        ]
        means.append((pair[1] - pair[0], (pair[1] - pair[0]) / pair[0]))
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    assert (found.interval.low, found.interval.high) == pytest.approx((low[0], high[0]), abs=1e-12)
    relative = found.relative_interval
    assert (relative.low, relative.high) == pytest.approx((low[1], high[1]), abs=1e-12)
    whole = [np.mean([eer(seed, labels).value for seed in system]) for system in (system_a, system_b)]
    assert (found.a, found.b) == pytest.approx(whole, abs=1e-12)
    assert found.difference == pytest.approx(whole[1] - whole[0], abs=1e-12)
    assert found.relative == pytest.approx(whole[1] / whole[0] - 1, abs=1e-12)


def test_pairing_cancels_hard_speakers():
    """One system is a little better for every speaker; speakers differ far more than the systems do."""
    rng = np.random.default_rng(8)
    scores, labels, a, b = speaker_trials(rng, 30, 1.5)
    better = scores + 0.6 * labels
    found = eer_difference(scores, better, labels, a, b, draws=200)
    alone = [eer_interval(s, labels, a, b, draws=200) for s in (scores, better)]
    assert alone[0].low < alone[1].high  # their separate intervals overlap
    assert found.excludes_zero and found.interval.high < 0
    assert found.interval.high - found.interval.low < alone[1].high - alone[1].low


def test_a_system_does_not_differ_from_itself_and_swapping_changes_the_sign():
    rng = np.random.default_rng(9)
    scores, labels, a, b = speaker_trials(rng, 12, 1.0)
    itself = eer_difference(scores, [scores, scores], labels, a, b, draws=30)
    assert (itself.difference, itself.interval.low, itself.interval.high) == (0, 0, 0)
    assert not itself.excludes_zero
    other = scores + rng.normal(size=len(scores))
    there = eer_difference(scores, other, labels, a, b, draws=30)
    back = eer_difference(other, scores, labels, a, b, draws=30)
    assert there.difference == -back.difference
    assert there.interval.low == pytest.approx(-back.interval.high, abs=1e-12)
    assert eer_difference(scores, other, labels, a, b, draws=30) == there
    assert eer_difference(scores, other, labels, a, b, draws=30, seed=1).interval != there.interval


def test_a_perfect_baseline_has_no_relative_difference():
    _, labels, a, b = speaker_trials(np.random.default_rng(0), 6, 0.0)
    found = eer_difference(labels.astype(float), 1.0 - labels, labels, a, b, draws=10)
    assert found.a == 0 and found.relative is None and found.relative_interval is None
    assert str(found) == "+100.00 points (+100.00 to +100.00)"


def test_a_difference_is_put_into_words():
    rng = np.random.default_rng(11)
    scores, labels, a, b = speaker_trials(rng, 12, 1.0)
    found = eer_difference(scores, scores + 0.5 * labels, labels, a, b, draws=30)
    points, per_cent = str(found).split(", ")
    assert points.startswith(f"{100 * found.difference:+.2f} points (")
    assert per_cent.startswith(f"{100 * found.relative:+.1f} % (")


def test_scores_must_fit_the_trials():
    scores, labels, a, b = speaker_trials(np.random.default_rng(0), 6, 0.0)
    with pytest.raises(IdemvoxError, match="one score and one label"):
        eer_difference(scores, scores[1:], labels, a, b)
    for wrong in (np.empty((0, len(labels))), scores[None, None]):
        with pytest.raises(IdemvoxError, match=r"\(trials,\) or \(seeds, trials\)"):
            eer_difference(scores, wrong, labels, a, b)
