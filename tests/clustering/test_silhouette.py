"""The silhouette is scikit-learn's, and finds how many groups there are."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import silhouette_score
from torch import Tensor

from idemvox.clustering.agglomerative import agglomerate
from idemvox.clustering.silhouette import choose_cut, silhouette


def blobs(groups: int, each: int, spread: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, 24, generator=generator, dtype=torch.float64)
    noise = torch.randn(groups * each, 24, generator=generator, dtype=torch.float64)
    return centres.repeat(each, 1) + spread * noise


@pytest.mark.parametrize("k", [2, 7, 30])
def test_the_silhouette_equals_scikit_learns(k):
    x = blobs(9, 8, 0.8)
    labels = torch.randint(0, k, (len(x),), generator=torch.Generator().manual_seed(k))
    labels = labels.unique(return_inverse=True)[1]
    expected = silhouette_score(x.numpy(), labels.numpy(), metric="cosine")
    assert silhouette(x, labels) == pytest.approx(expected, abs=1e-9)


def test_rows_can_be_left_out_or_sampled():
    x, labels = blobs(5, 6, 0.5), torch.arange(5).repeat(6)
    without = labels.clone()
    without[[0, 8]] = -1
    kept = without >= 0
    assert silhouette(x, without) == pytest.approx(silhouette(x[kept], labels[kept]), abs=1e-12)
    halves = [silhouette(x, labels, torch.arange(n, 30, 2)) for n in (0, 1)]
    assert sum(halves) / 2 == pytest.approx(silhouette(x, labels), abs=1e-12)
    assert silhouette(x, torch.zeros(30, dtype=torch.int64)) == 0


@pytest.mark.parametrize("groups", [3, 12, 40])
def test_it_chooses_about_the_number_of_groups(groups):
    x = blobs(groups, 9, 0.3)
    chosen = choose_cut(x, agglomerate(x))
    assert groups / 1.25 <= chosen <= groups * 1.25


def test_a_split_of_everything_into_two_is_not_chosen():
    x = blobs(2, 400, 0.3)
    assert choose_cut(x, agglomerate(x)) >= 800 // 64


def test_one_direction_is_one_cluster():
    x = torch.ones(5, 3)
    assert choose_cut(x, agglomerate(x)) == 1
