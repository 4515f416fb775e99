"""Nearest other rows, compared with a loop over all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering import neighbours
from idemvox.clustering.neighbours import mutual_share, nearest_within


def cloud(n: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [1, 7, 1024])
def test_the_nearest_of_the_own_cluster(monkeypatch, rows):
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    x, cluster = cloud(40), torch.randint(-1, 9, (40,), generator=torch.Generator().manual_seed(1))
    found, cosine = nearest_within(x, cluster, 4), normalize(x, dim=1) @ normalize(x, dim=1).T
    for n in range(40):
        others = [m for m in range(40) if m != n and cluster[m] == cluster[n] >= 0]
        expected = sorted(others, key=lambda m: -float(cosine[n, m]))[:4]
        assert found[n].tolist() == expected + [-1] * (4 - len(expected)), n


def test_rows_without_a_cluster_have_no_neighbours():
    assert (nearest_within(cloud(3), torch.full((3,), -1), 2) == -1).all()


@pytest.mark.parametrize("sample", [1000, 9])
def test_the_share_of_mutual_neighbours(monkeypatch, sample):
    monkeypatch.setattr(neighbours, "_SAMPLE", sample)
    x = cloud(30)
    cosine = (normalize(x, dim=1) @ normalize(x, dim=1).T).fill_diagonal_(-2)
    near = cosine.argmax(1)
    some = range(0, 30, 1 if sample > 30 else 4)
    assert mutual_share(x) == pytest.approx(sum(int(near[near[n]]) == n for n in some) / len(some))
    assert mutual_share(x[:1]) == 0 and mutual_share(torch.randn(1, 5).repeat(2, 1)) == 1
