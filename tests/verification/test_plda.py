"""PLDA, compared with the joint Gaussian densities, and EM on data from a known model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from idemvox.errors import CorpusError
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.embed import Embeddings
from idemvox.verification.plda import Plda, fit_lda, fit_plda, log_likelihood
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials


def covariance(dim, scale, seed):
    root = np.random.default_rng(seed).normal(size=(dim, dim))
    return scale * (root @ root.T / dim + 0.2 * np.eye(dim))


def model(dim=4, **more):
    mean = np.random.default_rng(3).normal(size=dim)
    return Plda(mean, covariance(dim, 2, 1), covariance(dim, 1, 2), **more)


def drawn(plda, classes, rows, seed=0):
    rng, zero = np.random.default_rng(seed), np.zeros(len(plda.mean))
    labels = np.repeat(np.arange(classes), rows)
    y = rng.multivariate_normal(plda.mean, plda.between, classes)
    return y[labels] + rng.multivariate_normal(zero, plda.within, len(labels)), labels


def log_ratio(plda, x, y):
    """The log ratio from the definition: both recordings from one speaker, or from two."""
    total, two = plda.between + plda.within, np.concatenate([plda.mean, plda.mean])
    same = np.block([[total, plda.between], [plda.between, total]])
    apart = [multivariate_normal(plda.mean, total).logpdf(side) for side in (x, y)]
    return multivariate_normal(two, same).logpdf(np.concatenate([x, y])) - sum(apart)


@pytest.mark.parametrize("unit_length", [False, True])
def test_score_is_the_ratio_of_the_joint_densities(unit_length):
    plda = model(unit_length=unit_length)
    scorer = Scorer("cosine", BackEnd(plda=plda))
    rows = np.random.default_rng(0).normal(size=(20, 2, 4))
    for x, y in rows:
        inside = [side / np.linalg.norm(side) if unit_length else side for side in (x, y)]
        assert scorer.score(x, y) == pytest.approx(log_ratio(plda, *inside), rel=1e-9, abs=1e-9)


def test_a_list_has_the_scores_of_its_pairs_for_every_kind_of_scoring():
    rows = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    pairs = np.array([(a, b) for a in range(6) for b in range(6)], np.int32)
    trials = Trials("list", tuple("abcdef"), np.zeros(len(pairs), bool), *pairs.T)
    for cohort in (None, Cohort(np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32), 5)):
        backend = BackEnd(np.full(4, 0.5, np.float32), cohort, model(unit_length=False))
        for compare in ("cosine", "euclidean"):
            scorer = Scorer(compare, backend)
            found = scorer.scores(Embeddings(tuple("abcdef"), rows), trials)
            alone = [scorer.score(rows[a], rows[b]) for a, b in pairs]
            np.testing.assert_allclose(found, alone, rtol=1e-3, atol=1e-4)
            many = scorer.against(rows, scorer.gallery(rows))
            np.testing.assert_allclose(many.ravel(), alone, rtol=1e-3, atol=1e-4)


def test_likelihood_is_that_of_each_class_as_one_gaussian_vector():
    plda = model(3, unit_length=False)
    rows, _ = drawn(plda, 4, 3)
    labels = np.repeat([0, 1, 2, 3], [1, 2, 4, 5])
    expected = 0.0
    for name in range(4):
        mine = rows[labels == name]
        shared = np.kron(np.ones((len(mine), len(mine))), plda.between)
        joint = shared + np.kron(np.eye(len(mine)), plda.within)
        expected += multivariate_normal(np.tile(plda.mean, len(mine)), joint).logpdf(mine.ravel())
    assert log_likelihood(plda, rows, labels) == pytest.approx(expected, rel=1e-4)


def test_the_likelihood_never_decreases():
    rows, labels = drawn(model(5, unit_length=False), 40, 4)
    keep = np.random.default_rng(1).random(len(rows)) < 0.7  # classes of various sizes
    rows, labels = rows[keep], labels[keep]
    found = [fit_plda(rows, labels, unit_length=False, iterations=n) for n in range(8)]
    likelihood = [log_likelihood(plda, rows, labels) for plda in found]
    assert all(b >= a - 1e-7 * abs(a) for a, b in pairwise(likelihood))
    assert likelihood[-1] > likelihood[0]


def test_em_recovers_the_covariances_of_the_data():
    """Approximately; since all classes have 3 rows, they are exactly those of an analysis of variance."""
    true = model(3, unit_length=False)
    rows, labels = drawn(true, 3000, 3)
    found = fit_plda(rows, labels, unit_length=False, iterations=50)
    np.testing.assert_allclose(found.between, true.between, atol=0.3 * np.trace(true.between) / 3)
    np.testing.assert_allclose(found.within, true.within, atol=0.3 * np.trace(true.within) / 3)
    classes = rows.reshape(3000, 3, 3)
    apart = (classes - classes.mean(axis=1, keepdims=True)).reshape(-1, 3)
    within = apart.T @ apart / (2 * 3000)
    between = np.cov(classes.mean(axis=1).T, bias=True) - within / 3
    np.testing.assert_allclose(found.within, within, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.between, between, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-6)


def test_lda_finds_the_direction_that_separates_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 20)
    rows = rng.normal(size=(200, 4)) * [30, 1, 1, 1]  # the first differs most, but not between classes
    rows[:, 2] += 10 * labels
    axes = fit_lda(rows, labels, 1)
    assert axes.shape == (4, 1) and abs(axes[2, 0]) > 0.9 * np.linalg.norm(axes)
    assert fit_lda(rows, labels, 99).shape == (4, 4) and fit_lda(rows, labels % 3, 99).shape == (4, 2)
    plda = fit_plda(rows, labels, lda=2)
    assert plda.dim == 4 and plda.mean.shape == (2,)


def test_embeddings_may_have_more_numbers_than_there_are_utterances():
    rows, labels = np.random.default_rng(0).normal(size=(12, 30)), np.arange(12) // 2
    vectors, offsets = fit_plda(rows, labels).ready(rows)
    assert np.isfinite(vectors).all() and np.isfinite(offsets).all()


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_uninformative_classes_are_refused(labels):
    with pytest.raises(CorpusError, match="cannot describe speakers"):
        fit_plda(np.eye(3), np.array(labels))
