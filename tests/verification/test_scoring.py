"""Scores, compared with a loop."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.errors import IdemvoxError
from idemvox.verification import scoring
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.embed import Embeddings
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials


def trials(ids, pairs):
    a, b = np.array(pairs, np.int32).T
    return Trials("list", tuple(ids), np.zeros(len(pairs), bool), a, b)


@pytest.mark.parametrize("dense", [0, 16])
@pytest.mark.parametrize("chunk", [1, 9, 65_536])
def test_scores_equal_a_loop(chunk, dense, monkeypatch):
    """Pair by pair, and by matrix products."""
    monkeypatch.setattr(scoring, "_DENSE", dense)
    rng = np.random.default_rng(0)
    embeddings = Embeddings(tuple("abcde"), rng.normal(size=(5, 4)).astype(np.float32) * 100)
    pairs = trials("edca", [(0, 1), (1, 1), (2, 3), (3, 0), (0, 2), (1, 3), (2, 0)])
    found = Scorer().scores(embeddings, pairs, chunk)
    for score, (_, a, b) in zip(found, pairs, strict=True):
        x, y = embeddings[a].astype(float), embeddings[b].astype(float)
        assert score == pytest.approx(x @ y / np.sqrt((x @ x) * (y @ y)), abs=1e-6)
    assert found[1] == pytest.approx(1) and found.dtype == np.float32


@pytest.mark.parametrize("chunk", [1, 3, 65_536])
def test_distances_equal_a_loop_and_depend_on_the_norm(chunk):
    rng = np.random.default_rng(0)
    embeddings = Embeddings(tuple("abcde"), rng.normal(size=(5, 4)).astype(np.float32) * 10)
    pairs = trials("edca", [(0, 1), (1, 1), (2, 3), (3, 0), (0, 2), (1, 3), (2, 0)])
    found = Scorer("euclidean").scores(embeddings, pairs, chunk)
    for score, (_, a, b) in zip(found, pairs, strict=True):
        apart = [float(x) - float(y) for x, y in zip(embeddings[a], embeddings[b], strict=True)]
        assert score == pytest.approx(-sum(d * d for d in apart), rel=1e-5)
    assert found[1] == 0 and (found <= 0).all() and found.dtype == np.float32


@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
def test_a_pair_has_the_score_of_its_trial(compare):
    rng = np.random.default_rng(3)
    scorer, matrix = Scorer(compare), np.round(rng.normal(size=(6, 8)), 2)
    pairs = [(a, b) for a in range(6) for b in range(6)]
    found = scorer.scores(Embeddings(tuple("abcdef"), matrix), trials("abcdef", pairs))
    alone = [scorer.score(matrix[a], matrix[b]) for a, b in pairs]
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-6)
    assert isinstance(alone[0], float) and alone[1] == scorer.score(matrix[1].tolist(), matrix[0].tolist())


def test_a_pair_by_hand():
    assert Scorer("cosine").score([1, 0], [3, 0]) == 1
    assert Scorer("euclidean").score([1, 0], [3, 0]) == -4
    assert Scorer("cosine").score([0, 0], [3, 0]) == Scorer("cosine").score([0, 0], [0, 0]) == 0


def test_an_unknown_kind_of_scoring_is_refused():
    assert Scorer() == Scorer("cosine") != Scorer("euclidean")
    assert (str(Scorer()), str(Scorer("euclidean"))) == ("cosine", "minus squared Euclidean distance")
    with pytest.raises(IdemvoxError, match="unknown scoring 'plda'; have: cosine, euclidean"):
        Scorer("plda")


@pytest.mark.parametrize(("missing", "by_products"), [(0, True), (100, False)])
def test_matrix_products_are_used_if_most_pairs_are_trials(missing, by_products, monkeypatch):
    """For a grid of first and second sides, and with as many more ids that occur in one trial each."""
    rng = np.random.default_rng(1)
    pairs = [(a, b) for a in range(5) for b in range(5, 30)] + [(30 + i, 31 + i) for i in range(missing)]
    rng.shuffle(pairs)
    ids = [str(i) for i in range(31 + missing)]
    embeddings = Embeddings(tuple(ids), rng.normal(size=(len(ids), 3)).astype(np.float32))
    calls = []
    whole = scoring._by_products
    monkeypatch.setattr(scoring, "_by_products", lambda *a: calls.append(a) or whole(*a))
    found = Scorer().scores(embeddings, trials(ids, pairs), 50)
    assert bool(calls) == by_products
    unit = embeddings.matrix / np.linalg.norm(embeddings.matrix, axis=1, keepdims=True)
    np.testing.assert_allclose(found, [unit[a] @ unit[b] for a, b in pairs], atol=1e-6)
    if by_products:
        assert calls[0][-1] == 2  # rows at a time: 50 scores over 25 second sides


def test_a_zero_embedding_scores_zero():
    embeddings = Embeddings(("a", "b"), np.array([[0, 0], [1, 2]], np.float32))
    assert Scorer().scores(embeddings, trials("ab", [(0, 1)])).tolist() == [0]


def test_unknown_ids_are_listed_up_to_five():
    embeddings = Embeddings(("a",), np.ones((1, 2), np.float32))
    with pytest.raises(IdemvoxError, match=r"7 of the 8 .*: b, c, d, e, f, \.\.\.;.*root folder"):
        Scorer().scores(embeddings, trials("abcdefgh", [(0, 1)]))
    with pytest.raises(IdemvoxError, match=r"7 of the 8 .*: b, c, d"):
        Scorer("euclidean").scores(embeddings, trials("abcdefgh", [(0, 1)]))


@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
@pytest.mark.parametrize("top", [None, 5, "no cohort"])
def test_against_a_gallery_scores_are_those_of_the_pairs(compare, top):
    rng = np.random.default_rng(4)
    people, probes, strangers = (rng.normal(size=(n, 6)).astype(np.float32) for n in (9, 3, 30))
    cohort = None if top == "no cohort" else Cohort(strangers, top)
    scorer = Scorer(compare, BackEnd(rng.normal(size=6).astype(np.float32), cohort))
    gallery = scorer.gallery(people)
    found = scorer.against(probes, gallery)
    expected = np.array([[scorer.score(probe, one) for one in people] for probe in probes])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert found.dtype == np.float32 and found.shape == (3, 9)
    some = gallery.rows(np.array([4, 0])).joined(scorer.gallery(people[7:]))
    assert len(some) == 4
    np.testing.assert_allclose(scorer.against(probes, some), expected[:, [4, 0, 7, 8]], rtol=1e-4, atol=1e-4)
