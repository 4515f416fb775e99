"""Agglomeration: it equals scipy's, and does more than scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering import agglomerative
from idemvox.clustering.agglomerative import agglomerate, clusters_of
from idemvox.errors import IdemvoxError

each = pytest.mark.parametrize


def cloud(n: int = 120, dim: int = 6, groups: int = 15, seed: int = 0) -> Tensor:
    """Directions about some others, of any length, in fp64."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(groups, dim, generator=generator, dtype=torch.float64)
    x = centres[torch.arange(n) % groups]
    x = x + 0.5 * torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return x * torch.rand(n, 1, generator=generator, dtype=torch.float64).add(0.2)


def by_lowest(labels: np.ndarray | Tensor) -> list[int]:
    """Number a partition in the order in which its clusters come."""
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in labels]


@each("seed", range(4))
@each("groups", [1, 15])
def test_the_tree_equals_scipys(seed, groups):
    x = cloud(groups=groups, seed=seed)
    expected = linkage(x.numpy(), method="average", metric="cosine")
    tree = agglomerate(x)
    assert tree.leaves == len(x)
    np.testing.assert_allclose(1 - tree.height.numpy(), expected[:, 2], atol=1e-12)
    for k in (1, 2, 3, 10, 37, 119, 120):
        assert tree.cut(k).tolist() == by_lowest(fcluster(expected, k, "maxclust")), k


def test_in_single_precision_the_height_of_each_merge_is_the_mean_cosine_of_all_pairs():
    x = cloud(60).float()
    tree, unit = agglomerate(x), normalize(x, dim=1)
    before = tree.cut(60)
    for n in range(59):
        a, b = (before == before[leaf] for leaf in (tree.first[n], tree.second[n]))
        assert float(tree.height[n]) == pytest.approx(float((unit[a] @ unit[b].T).mean()), abs=1e-5)
        before = tree.cut(59 - n)
    assert (tree.height.diff() <= 0).all()


def test_block_sizes_change_nothing(monkeypatch):
    x = cloud()
    whole = agglomerate(x)
    monkeypatch.setattr(agglomerative, "_BLOCK", 500)
    parts = agglomerate(x)
    assert all(torch.equal(whole.cut(k), parts.cut(k)) for k in (2, 20, 60))


def test_more_clusters_than_rows_leave_each_row_alone():
    tree = agglomerate(cloud(7))
    assert tree.cut(100).tolist() == list(range(7))
    assert agglomerate(cloud(1)).cut(5).tolist() == [0]
    with pytest.raises(IdemvoxError, match="at least 1"):
        tree.cut(0)


def test_copies_are_one_leaf_with_their_number_as_weight():
    x = cloud(30)
    copied = torch.cat([x, 3 * x[:5], x[:5], x[4:5]])
    tree = agglomerate(copied)
    assert tree.leaves == 30
    expected = linkage(copied.numpy(), method="average", metric="cosine")
    for k in (2, 5, 11, 29):
        assert tree.cut(k).tolist() == by_lowest(fcluster(expected, k, "maxclust"))


@each("dtype", [torch.float32, torch.float64])
def test_a_collapsed_encoder_makes_one_cluster(dtype):
    x = torch.randn(1, 64, dtype=dtype).expand(500, 64) + 1e-9 * torch.randn(500, 64, dtype=dtype)
    tree = agglomerate(x.float())
    assert tree.leaves == 1 and tree.cut(9).tolist() == [0] * 500


def test_ties_go_to_the_lower_row():
    """The corners of a simplex are all equally near to each other."""
    tree = agglomerate(torch.eye(9, dtype=torch.float64))
    assert tree.leaves == 9 and torch.equal(tree.height, torch.zeros(8, dtype=torch.float64))
    again = agglomerate(torch.eye(9, dtype=torch.float64))
    assert torch.equal(tree.first, again.first) and tree.cut(8).tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 7]


def test_it_ends_even_if_rounding_leaves_no_mutually_nearest_pair():
    alive = torch.arange(3)
    near, value = torch.tensor([1, 2, 0]), torch.tensor([0.5, 0.7, 0.6])
    first = agglomerative._mutual(alive, near, value)
    assert first.tolist() == [1] and near[1] == 2
    near, value = torch.tensor([1, 2, 0]), torch.tensor([0.5, 0.6, 0.7])
    first = agglomerative._mutual(alive, near, value)
    assert first.tolist() == [0] and near[0] == 2 and value[0] == pytest.approx(0.7)


def test_a_row_of_zeros_is_in_no_cluster():
    x = cloud(20)
    x[[3, 7]] = 0
    kept = [n for n in range(20) if n not in (3, 7)]
    found = agglomerate(x).cut(5)
    assert found[[3, 7]].tolist() == [-1, -1]
    assert torch.equal(found[kept], agglomerate(x[kept]).cut(5))


def test_impossible_input_is_refused():
    with pytest.raises(IdemvoxError, match="nothing to cluster"):
        agglomerate(torch.zeros(0, 3))
    with pytest.raises(IdemvoxError, match="are zero"):
        agglomerate(torch.zeros(4, 3))
    x = cloud(9)
    x[4, 0] = float("nan")
    with pytest.raises(IdemvoxError, match=r"1 of 9 .*\(ids 104\)"):
        agglomerate(x, ids=torch.arange(100, 109))


def test_two_stages_find_separate_groups_and_weight_them_by_size():
    generator = torch.Generator().manual_seed(1)
    centres = normalize(torch.randn(12, 32, generator=generator), dim=1)
    cluster = torch.arange(600) % 12
    x = centres[cluster] + 0.03 * torch.randn(600, 32, generator=generator)
    tree = agglomerate(x, exact_up_to=60, seed=3)
    assert tree.leaves <= 60
    assert by_lowest(tree.cut(12)) == cluster.tolist()
    unit, top = normalize(x, dim=1), tree.cut(2)
    between = unit[top == 0] @ unit[top == 1].T
    assert float(tree.height[-1]) == pytest.approx(float(between.mean()), abs=1e-5)


def test_a_partition_is_described_as_by_k_means():
    x = cloud(40).float()
    assignment = agglomerate(x).cut(6)
    assignment[5] = -1
    found, unit = clusters_of(x, assignment), normalize(x, dim=1)
    for c in range(6):
        expected = normalize(unit[assignment == c].sum(0), dim=0)
        torch.testing.assert_close(found.centroids[c], expected)
    for n in range(40):
        expected = 0 if n == 5 else unit[n] @ found.centroids[assignment[n]]
        assert float(found.similarity[n]) == pytest.approx(float(expected), abs=1e-6)
