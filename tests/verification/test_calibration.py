"""Calibration, compared with the definition of its regression, known likelihood ratios, and counting."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from idemvox.errors import CorpusError, IdemvoxError, ModelError
from idemvox.verification.calibrate import fit_calibration
from idemvox.verification.calibration import CALIBRATION_FILE, load_calibration, save_calibration
from idemvox.verification.logistic import RIDGE


def normal_trials(rng, targets=400, impostors=4000, gap=3.0):
    """Scores of variance 1, so their log-likelihood ratio is gap * score - gap ** 2 / 2."""
    labels = np.arange(targets + impostors) < targets
    return rng.normal(size=len(labels)) + gap * labels, labels


def slow_cost(llrs, labels, prior):
    """Prior-weighted cross-entropy, trial by trial."""
    logit = math.log(prior / (1 - prior))
    targets = [math.log1p(math.exp(-x - logit)) for x, same in zip(llrs, labels, strict=True) if same]
    impostors = [math.log1p(math.exp(x + logit)) for x, same in zip(llrs, labels, strict=True) if not same]
    return prior * sum(targets) / len(targets) + (1 - prior) * sum(impostors) / len(impostors)


@pytest.mark.parametrize("prior", [0.01, 0.5])
def test_weights_minimise_the_cross_entropy(prior):
    rng = np.random.default_rng(0)
    scores, labels = normal_trials(rng, 40, 160)
    durations = rng.uniform(1, 30, (200, 2))
    found = fit_calibration(scores, labels, prior=prior, durations=durations)
    sides = np.log(np.sort(durations, axis=1)).T
    spread = np.array([scores.std(), *sides.std(axis=1)])

    def cost(w):
        llrs = w[0] + w[1] * scores + w[2] * sides[0] + w[3] * sides[1]
        return (
            slow_cost(llrs, labels, prior) + RIDGE / 2 * min(prior, 1 - prior) * ((w[1:] * spread) ** 2).sum()
        )

    weights = [found.offset, found.slope, *(term.weight for term in found.terms)]
    best = minimize(cost, weights, method="BFGS", options={"gtol": 1e-9})
    assert cost(weights) <= best.fun + 1e-12
    np.testing.assert_allclose(weights, best.x, rtol=1e-3, atol=1e-3)


def test_llrs_of_normal_scores_are_correct():
    scores, labels = normal_trials(np.random.default_rng(1), 20_000, 200_000)
    found = fit_calibration(scores, labels, prior=0.1)
    assert found.slope == pytest.approx(3, rel=0.05) and found.offset == pytest.approx(-4.5, rel=0.05)
    np.testing.assert_allclose(found.llr([1.0, 2.0]), [-1.5, 1.5], atol=0.15)
    assert found.score(found.llr([0.7])[0]) == pytest.approx(0.7)


def test_the_ridge_hardly_changes_trials_that_overlap(monkeypatch):
    scores, labels = normal_trials(np.random.default_rng(2))
    with_ridge = fit_calibration(scores, labels).slope
    monkeypatch.setattr("idemvox.verification.logistic.RIDGE", 0.0)
    assert with_ridge == pytest.approx(fit_calibration(scores, labels).slope, rel=0.01)


def test_separated_trials_get_finite_weights():
    found = fit_calibration([0.0, 0.1, 0.2, 0.8, 0.9], [0, 0, 0, 1, 1])
    assert 0 < found.slope < 1000
    assert found.llr([0.2])[0] < 0 < found.llr([0.8])[0]


def test_calibration_undoes_scale_and_shift():
    """Scaled and shifted scores have the same likelihood ratios."""
    scores, labels = normal_trials(np.random.default_rng(3), 50, 200)
    one, other = fit_calibration(scores, labels), fit_calibration(-100 + 1e-3 * scores, labels)
    np.testing.assert_allclose(other.llr(-100 + 1e-3 * scores), one.llr(scores), atol=1e-6)


def test_durations_are_used_as_evidence():
    """Short trials score lower on both sides of the decision; durations correct that, in any order."""
    rng = np.random.default_rng(4)
    scores, labels = normal_trials(rng, 2000, 8000)
    durations = np.exp(rng.uniform(0, 3, (len(labels), 2)))
    scores += np.log(durations.min(axis=1))
    found = fit_calibration(scores, labels, prior=0.1, durations=durations)
    shorter, longer = found.terms
    assert (shorter.side, longer.side) == ("shorter", "longer")
    assert shorter.weight == pytest.approx(-found.slope, rel=0.1) and abs(longer.weight) < 0.2
    assert found.llr([2.0], [[3.0, 9.0]]) == found.llr([2.0], [[9.0, 3.0]])
    assert found.llr([2.0], [[1e-3, 9.0]]) == found.llr(
        [2.0], [[math.exp(shorter.low), 9.0]]
    )  # not extrapolated
    plain = fit_calibration(scores, labels, prior=0.1)
    assert slow_cost(found.llr(scores, durations), labels, 0.1) < slow_cost(plain.llr(scores), labels, 0.1)


def test_the_worse_side_determines_the_quality():
    rng = np.random.default_rng(5)
    scores, labels = normal_trials(rng, 500, 2000)
    quality = rng.uniform(0, 40, (len(labels), 2))
    scores += 0.1 * quality.min(axis=1)
    found = fit_calibration(scores, labels, prior=0.1, quality=quality)
    assert found.needs_quality and not found.needs_durations
    assert found.terms[0].weight == pytest.approx(-0.1 * found.slope, rel=0.1)
    with pytest.raises(IdemvoxError, match="uses quality"):
        found.llr(scores)


def test_side_information_must_fit_the_trials():
    scores, labels = normal_trials(np.random.default_rng(6), 10, 30)
    with pytest.raises(IdemvoxError, match="two finite durations per trial"):
        fit_calibration(scores, labels, durations=np.ones(40))
    with pytest.raises(IdemvoxError, match="above 0"):
        fit_calibration(scores, labels, durations=np.zeros((40, 2)))
    found = fit_calibration(
        scores, labels, durations=np.full((40, 2), 3.0)
    )  # all equal, so without information
    assert [term.weight for term in found.terms] == [0, 0]
    with pytest.raises(IdemvoxError, match="uses durations"):
        found.llr(scores)


def test_useless_scores_are_refused():
    scores, labels = normal_trials(np.random.default_rng(7), 50, 200)
    with pytest.raises(ModelError, match="labels are not swapped"):
        fit_calibration(-scores, labels)
    with pytest.raises(ModelError, match="all scores are equal"):
        fit_calibration(np.ones(4), [0, 0, 1, 1])
    with pytest.raises(CorpusError, match="need target trials"):
        fit_calibration(scores, np.zeros(250))
    with pytest.raises(IdemvoxError, match="prior"):
        fit_calibration(scores, labels, prior=1.0)


@pytest.mark.parametrize("tied", [False, True])
def test_thresholds_are_found_by_counting(tied):
    scores, labels = normal_trials(np.random.default_rng(8), 200, 3000)
    scores = np.round(scores, 1) if tied else scores
    found = fit_calibration(scores, labels, trials="calls")
    assert found.lowest_rate == 0.01
    llrs = found.llr(scores)
    for rate in (0.01, 0.02, 0.05, 0.5):
        at = found.threshold(rate)
        accepted = np.array([x >= at.llr for x in llrs])
        assert at.far == accepted[~labels].sum() / 3000 and at.missed == (~accepted[labels]).sum() / 200
        assert at.far <= rate
        lower = max(x for x, same in zip(llrs, labels, strict=True) if not same and x < at.llr)
        assert np.mean(llrs[~labels] >= lower) > rate  # the next lower threshold accepts too many
        assert found.llr([at.score])[0] == pytest.approx(at.llr)
        assert (at.trials, at.targets, at.impostors) == ("calls", 200, 3000)
        assert at.low is None is at.high  # the speakers are unknown
    assert found.threshold(0.0259) == found.threshold(0.025)  # two significant digits


def test_a_rate_that_the_trials_cannot_support_is_refused():
    scores, labels = normal_trials(np.random.default_rng(9), 20, 1000)
    with pytest.raises(
        CorpusError, match=r"needs 30,000 impostor trials.* had 1,000.* rate of 0\.03 or more"
    ):
        fit_calibration(scores, labels).threshold(0.001)
    few = fit_calibration(scores[:45], labels[:45])
    with pytest.raises(CorpusError, match="too few for any rate"):
        few.threshold(0.5)
    with pytest.raises(IdemvoxError, match="between 0 and 1"):
        few.threshold(1)


def speaker_trials(rng, speakers):
    """All pairs of 3 utterances per speaker; each speaker resembles others by its own amount."""
    names = np.repeat(np.arange(speakers), 3)
    a, b = np.triu_indices(len(names), 1)
    labels = names[a] == names[b]
    alike = rng.normal(size=speakers)
    scores = rng.normal(size=len(a)) + np.where(labels, 4, alike[names[a]] + alike[names[b]])
    return scores, labels, (names[a], names[b])


def test_intervals_equal_repeating_the_trials():
    scores, labels, (a, b) = speaker_trials(np.random.default_rng(10), 8)
    found = fit_calibration(scores, labels, speakers=(a, b), draws=1, seed=5)
    times = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8))  # the same first draw
    llrs = found.llr(scores)
    for rate in (0.2, 0.5):
        at = found.threshold(rate)
        pairs = [(x, times[i] * times[j]) for x, i, j in zip(llrs, a, b, strict=True) if i != j]
        repeated = [x >= at.llr for x, count in pairs for _ in range(count)]
        assert at.low == at.high == pytest.approx(np.mean(repeated))


def test_intervals_contain_the_rate_and_narrow_with_speakers():
    rng = np.random.default_rng(11)
    widths = []
    for speakers in (8, 40):
        scores, labels, pair = speaker_trials(rng, speakers)
        found = fit_calibration(scores, labels, speakers=pair)
        assert found.speakers == speakers
        at = found.threshold(0.2)
        assert at.low <= at.far <= at.high
        widths.append(at.high - at.low)
        named = tuple([f"s{i:02}" for i in side] for side in pair)
        assert fit_calibration(scores, labels, speakers=named) == found
    assert widths[1] < widths[0]
    with pytest.raises(CorpusError, match="contradict"):
        fit_calibration(scores, labels, speakers=(pair[0], pair[0]))


@pytest.fixture
def calibrated(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    rng = np.random.default_rng(12)
    scores, labels, pair = speaker_trials(rng, 8)
    durations = rng.uniform(1, 9, (len(labels), 2))
    return tmp_path, fit_calibration(scores, labels, durations=durations, speakers=pair, scoring="cosine")


def test_a_calibration_is_stored_with_the_model(calibrated):
    folder, found = calibrated
    assert load_calibration(folder) is None
    save_calibration(folder, found)
    assert load_calibration(folder) == load_calibration(folder, "cosine") == found


def test_a_calibration_of_other_weights_or_another_scorer_is_refused(calibrated):
    folder, found = calibrated
    save_calibration(folder, replace(found, scoring="minus squared Euclidean distance"))
    with pytest.raises(ModelError, match="Euclidean distance, but this model is scored by cosine"):
        load_calibration(folder, "cosine")
    (folder / "backend.safetensors").write_bytes(b"more")
    with pytest.raises(ModelError, match="other weights"):
        load_calibration(folder)
    (folder / "backend.safetensors").unlink()
    assert load_calibration(folder) is not None
    (folder / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ModelError, match="other weights"):
        load_calibration(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weights": "", "calibration": {"slope": "steep"}}'])
def test_a_damaged_file_is_refused(calibrated, text):
    (calibrated[0] / CALIBRATION_FILE).write_text(text)
    with pytest.raises(ModelError, match=r"calibration\.json"):
        load_calibration(calibrated[0])


def test_the_file_is_plain_json(calibrated):
    folder, found = calibrated
    stored = json.loads(save_calibration(folder, found).read_text())
    assert stored["calibration"]["slope"] == found.slope
