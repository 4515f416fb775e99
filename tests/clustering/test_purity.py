"""Purity and right pairs, counted one by one."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import normalized_mutual_info_score

from idemvox.clustering.purity import nmi, pair_share, purity


@pytest.mark.parametrize("seed", range(3))
def test_purity_equals_a_count(seed):
    rng = np.random.default_rng(seed)
    cluster, label = rng.integers(-1, 6, 50), rng.integers(-1, 4, 50)
    known = [n for n in range(50) if cluster[n] >= 0 and label[n] >= 0]
    pairs = [(a, b) for a, b in combinations(known, 2) if cluster[a] == cluster[b]]
    assert pair_share(cluster, label) == pytest.approx(np.mean([label[a] == label[b] for a, b in pairs]))
    most = [max(Counter(label[n] for n in known if cluster[n] == c).values()) for c in range(6)]
    assert purity(cluster, label) == pytest.approx(sum(most) / len(known))


def test_without_labels_there_is_nothing_to_count():
    none = np.full(4, -1)
    assert purity(none, np.arange(4)) is None and purity(np.arange(4), none) is None
    assert pair_share(np.arange(4), np.zeros(4, int)) is None and purity(np.arange(4), np.zeros(4, int)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_nmi_is_scikit_learns_where_both_are_known(seed):
    rng = np.random.default_rng(seed)
    cluster, label = rng.integers(-1, 6, 50), rng.integers(-1, 4, 50)
    known = (cluster >= 0) & (label >= 0)
    expected = normalized_mutual_info_score(label[known], cluster[known])
    assert nmi(cluster, label) == pytest.approx(expected, abs=1e-12)


def test_nmi_of_the_same_of_one_cluster_and_of_nothing():
    assert nmi(np.arange(4), np.arange(4)[::-1].copy()) == pytest.approx(1)
    assert nmi(np.zeros(4, int), np.arange(4)) == 0 and nmi(np.zeros(2, int), np.zeros(2, int)) == 1
    assert nmi(np.full(4, -1), np.arange(4)) is None
