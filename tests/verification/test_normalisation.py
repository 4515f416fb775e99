"""Mean subtraction, S-norm and AS-norm, compared with a loop over trials."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from idemvox.errors import ModelError
from idemvox.verification import scoring
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.embed import Embeddings
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials

IDS = tuple("abcdefgh")


def drawn(*shape, seed=0):
    return (np.random.default_rng(seed).normal(size=shape) + 0.7).astype(np.float32)


def all_pairs(seed=0):
    pairs = [(a, b) for a in range(len(IDS)) for b in range(len(IDS))]
    a, b = np.random.default_rng(seed).permutation(pairs).astype(np.int32).T
    return Trials("list", IDS, np.zeros(len(pairs), bool), a, b)


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / math.sqrt(
        sum(a * a for a in x) * sum(b * b for b in y)
    )


def minus_distance(x, y):
    return -sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def normalised(x, y, cohort, top, compare):
    """One trial from the definition, in Python floats."""
    score = compare(x, y)
    sides = []
    for side in (x, y):
        highest = sorted((compare(side, c) for c in cohort), reverse=True)[:top]
        sides.append((score - statistics.mean(highest)) / statistics.pstdev(highest))
    return sum(sides) / 2


@pytest.mark.parametrize("top", [None, 5, 40, 999])
@pytest.mark.parametrize("chunk", [7, 1 << 20])
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
def test_equals_a_loop_over_trials(compare, mean, chunk, top):
    embeddings, strangers = Embeddings(IDS, drawn(len(IDS), 6)), drawn(40, 6, seed=1)
    centre = strangers.mean(axis=0) if mean else np.zeros(6, np.float32)
    scorer = Scorer(compare, BackEnd(centre if mean else None, cohort=Cohort(strangers, top)))
    pairs = all_pairs()
    found = scorer.scores(embeddings, pairs, chunk)
    less = {i: (embeddings[i] - centre).astype(float).tolist() for i in IDS}
    cohort = (strangers - centre).astype(float).tolist()
    by = cosine if compare == "cosine" else minus_distance
    expected = [normalised(less[a], less[b], cohort, top, by) for _, a, b in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32


@pytest.mark.parametrize("dense", [0, 16])
@pytest.mark.parametrize("top", [None, 5])
def test_a_pair_has_the_score_of_its_trial_in_either_order(top, dense, monkeypatch):
    monkeypatch.setattr(scoring, "_DENSE", dense)
    embeddings = Embeddings(IDS, drawn(len(IDS), 6))
    scorer = Scorer("cosine", BackEnd(drawn(6), cohort=Cohort(drawn(40, 6, seed=1), top)))
    by_pair = {}
    for seed in range(2):
        pairs = all_pairs(seed)
        for score, (_, a, b) in zip(scorer.scores(embeddings, pairs), pairs, strict=True):
            by_pair.setdefault((a, b), []).append(float(score))
    for (a, b), scores in by_pair.items():
        alone = scorer.score(embeddings[a], embeddings[b])
        assert scores == pytest.approx([alone] * 2, rel=1e-4, abs=1e-4)
        assert alone == pytest.approx(scorer.score(embeddings[b], embeddings[a]), rel=1e-9)


@pytest.mark.parametrize("top", [0, None, 5])
@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
def test_the_score_of_crops_is_the_mean_over_all_pairs(compare, top):
    """The same holds for each side against the cohort."""
    crops, strangers = Embeddings(IDS, drawn(len(IDS), 3, 6)), drawn(40, 6, seed=1)
    scorer = Scorer(compare, None if top == 0 else BackEnd(cohort=Cohort(strangers, top)))
    by = cosine if compare == "cosine" else minus_distance

    def mean_pair(one, other):
        one, other = (side if side.ndim == 2 else side[None] for side in (one, other))
        return statistics.mean(by(x, y) for x in one.tolist() for y in other.tolist())

    pairs = all_pairs()
    found = scorer.scores(crops, pairs)
    for score, (_, a, b) in zip(found, pairs, strict=True):
        if top == 0:
            expected = mean_pair(crops[a], crops[b])
        else:
            expected = normalised(crops[a], crops[b], strangers, top, mean_pair)
        assert score == pytest.approx(expected, rel=1e-3, abs=1e-3)
        assert scorer.score(crops[a], crops[b]) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_mean_subtracted_cosine_by_hand():
    scorer = Scorer("cosine", BackEnd(np.array([1, 1], np.float32)))
    assert scorer.score([3, 1], [1, 5]) == 0  # (2, 0) and (0, 4)
    assert scorer.score([3, 3], [2, 2]) == pytest.approx(1)
    pairs = Trials("list", ("a", "b"), np.zeros(1, bool), *np.array([[0], [1]], np.int32))
    embeddings = Embeddings(("a", "b"), np.array([[3, 1], [-4, 1]], np.float32))
    assert scorer.scores(embeddings, pairs).tolist() == [-1]


def test_embeddings_are_not_changed():
    embeddings, strangers = Embeddings(IDS, drawn(len(IDS), 6)), drawn(40, 6, seed=1)
    before = embeddings.matrix.copy(), strangers.copy()
    Scorer("cosine", BackEnd(drawn(6), cohort=Cohort(strangers, 5))).scores(embeddings, all_pairs())
    assert np.array_equal(embeddings.matrix, before[0]) and np.array_equal(strangers, before[1])


def test_an_embedding_of_zeros_has_a_finite_score():
    scorer = Scorer("cosine", BackEnd(cohort=Cohort(drawn(40, 6), 5)))
    assert math.isfinite(scorer.score([0] * 6, [1] * 6)) and math.isfinite(scorer.score([0] * 6, [0] * 6))


def test_recordings_similar_to_many_strangers_have_no_advantage():
    """This is the purpose of normalisation."""
    rng = np.random.default_rng(0)
    speakers = rng.normal(size=(2, 16))
    near = rng.normal(size=16)  # the direction of a microphone that half of the cohort has too
    strangers = rng.normal(size=(400, 16)) + np.where(rng.random(400) < 0.5, 4, 0)[:, None] * near
    plain, normed = Scorer(), Scorer("cosine", BackEnd(cohort=Cohort(strangers.astype(np.float32), 100)))
    same_microphone = [speakers[0] + 4 * near, speakers[1] + 4 * near]
    same_speaker = [speakers[0], speakers[0] + 0.8 * rng.normal(size=16)]
    assert plain.score(*same_microphone) > plain.score(*same_speaker)
    assert normed.score(*same_microphone) < normed.score(*same_speaker)


def test_the_description_names_the_method():
    mean, strangers = np.zeros(6, np.float32), drawn(40, 6)
    words = {
        "mean-subtracted cosine": BackEnd(mean),
        "S-norm (40 utterances) of the cosine": BackEnd(cohort=Cohort(strangers)),
        "AS-norm (top 5 of 40 speakers) of the mean-subtracted cosine": BackEnd(
            mean, cohort=Cohort(strangers, 5, "speakers")
        ),
    }
    assert [str(Scorer("cosine", backend)) for backend in words.values()] == list(words)
    assert Scorer() == Scorer("cosine", None) != Scorer("cosine", BackEnd(mean))


def test_cohorts_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="fitted on embeddings of 6 numbers, these have 5"):
        Scorer("cosine", BackEnd(np.zeros(6, np.float32))).score([1] * 5, [1] * 5)
    with pytest.raises(ModelError, match="same encoder"):
        BackEnd(np.zeros(5, np.float32), cohort=Cohort(drawn(40, 6)))
    for cohort in ({"vectors": drawn(1, 6)}, {"vectors": drawn(40, 6), "top": 1}):
        with pytest.raises(ModelError, match="give more utterances"):
            Cohort(**cohort)
