"""Spherical k-means: its objective, and awkward data."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering import nearest
from idemvox.clustering.kmeans import cluster_sums, spherical_kmeans
from idemvox.errors import IdemvoxError


def cloud(n: int = 200, dim: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def planted(clusters: int = 5, each: int = 30, noise: float = 0.05) -> tuple[Tensor, Tensor]:
    """Shuffled directions around orthogonal axes, with their true clusters."""
    generator = torch.Generator().manual_seed(2)
    truth = torch.arange(clusters).repeat_interleave(each)[
        torch.randperm(clusters * each, generator=generator)
    ]
    axes = torch.eye(8)[:clusters]
    return axes[truth] + noise * torch.randn(len(truth), 8, generator=generator), truth


def test_more_iterations_never_lower_the_objective():
    x = cloud()
    values = [spherical_kmeans(x, 12, n, seed=4).objective for n in range(12)]
    assert all(b >= a - 1e-6 for a, b in pairwise(values))
    assert values[-1] > values[0] + 0.02


def test_one_iteration_is_the_normalised_mean_of_each_cluster():
    x = cloud(60)
    unit = normalize(x, dim=1)
    start = spherical_kmeans(x, 4, 0, seed=1)
    after = spherical_kmeans(x, 4, 1, seed=1)
    for c in range(4):
        mean = unit[start.assignment == c].mean(0)
        torch.testing.assert_close(after.centroids[c], mean / mean.norm())


def test_assignment_and_similarity_belong_to_the_returned_centroids():
    x = cloud()
    found = spherical_kmeans(x, 9, 3)
    cosine = normalize(x, dim=1) @ found.centroids.T
    assert torch.equal(found.assignment, cosine.argmax(1))
    torch.testing.assert_close(found.similarity, cosine.max(1).values)
    torch.testing.assert_close(found.centroids.norm(dim=1), torch.ones(9))
    assert found.objective == pytest.approx(float(found.similarity.mean()))


def test_initial_centroids_are_distinct_rows():
    x = cloud()
    start = spherical_kmeans(x, 20, 0).centroids
    rows = (normalize(x, dim=1) @ start.T > 1 - 1e-6).nonzero()
    assert len(rows) == 20 and len(set(rows[:, 0].tolist())) == 20


def test_planted_clusters_are_found():
    x, truth = planted()
    found = max((spherical_kmeans(x, 5, 20, seed) for seed in range(10)), key=lambda c: c.objective)
    of = {int(t): set(found.assignment[truth == t].tolist()) for t in truth.unique()}
    assert all(len(clusters) == 1 for clusters in of.values())
    assert len(set.union(*of.values())) == 5
    assert found.objective > 0.98


def test_an_empty_cluster_restarts_from_the_worst_vector():
    """Two of three initial centroids are equal, so one cluster is empty and moves to the worst vector."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.02], [1.0, 0.04], [0.5, 1.0]])
    seed = next(
        s
        for s in range(1000)
        if set(torch.randperm(5, generator=torch.Generator().manual_seed(s))[:2].tolist()) == {0, 1}
    )
    found = spherical_kmeans(x, 2, 10, seed)
    assert found.assignment.bincount(minlength=2).min() > 0
    assert found.assignment[4] not in found.assignment[:4]


def test_there_may_be_fewer_directions_than_clusters():
    directions = normalize(cloud(4), dim=1)
    x = directions[torch.arange(40) % 4]
    found = spherical_kmeans(x, 10, 10)
    assert found.centroids.shape == (10, 6) and torch.isfinite(found.centroids).all()
    assert len(found.assignment.unique()) == 4  # six clusters stay empty
    assert found.objective == pytest.approx(1.0, abs=1e-6)


def test_all_vectors_may_be_equal():
    found = spherical_kmeans(torch.ones(7, 3), 3, 5)
    assert len(found.assignment.unique()) == 1
    torch.testing.assert_close(found.similarity, torch.ones(7))


def test_duplicates_cost_no_cluster():
    """Half of the rows and of the initial centroids are equal; the other clusters are still found."""
    x = torch.cat([cloud(1).expand(60, -1), planted()[0][:60, :6]])
    found = spherical_kmeans(x, 12, 10)
    assert found.assignment.bincount(minlength=12).min() > 0
    assert len(found.assignment[:60].unique()) == 1


def test_rows_of_zeros_are_assigned_but_start_no_cluster():
    x = cloud(40)
    x[::2] = 0
    found = spherical_kmeans(x, 20, 3)
    torch.testing.assert_close(found.centroids.norm(dim=1), torch.ones(20))
    assert torch.equal(found.similarity[::2], torch.zeros(20))
    assert sorted(found.assignment[1::2].tolist()) == list(range(20))  # each row with a direction has its own
    assert len(spherical_kmeans(x, 30, 3).centroids) == 20


def test_an_empty_cluster_does_not_restart_from_zeros():
    x = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 0.0]] * 5 + [[0.0, 1.0]])
    for seed in range(10):
        found = spherical_kmeans(x, 2, 3, seed)
        torch.testing.assert_close(found.centroids.sort(0).values, torch.eye(2).sort(0).values)


def test_all_rows_may_be_zeros():
    with pytest.raises(IdemvoxError, match="all 9 vectors to cluster are zero"):
        spherical_kmeans(torch.zeros(9, 3), 2)


def test_members_may_cancel_out():
    """The mean of x and -x has no direction, so the cluster restarts from one of them."""
    found = spherical_kmeans(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]), 1, 4)
    torch.testing.assert_close(found.centroids.norm(dim=1), torch.ones(1))


def test_more_clusters_than_vectors_are_refused():
    found = spherical_kmeans(cloud(5), 9, 3)
    assert found.centroids.shape == (5, 6)
    assert sorted(found.assignment.tolist()) == list(range(5))


def test_non_finite_rows_are_named():
    x = cloud(50)
    x[7, 2], x[31, 0] = float("nan"), float("-inf")
    with pytest.raises(IdemvoxError, match=r"2 of 50 .* \(ids 7, 31\)"):
        spherical_kmeans(x, 3)


def test_many_bad_rows_are_not_all_listed():
    with pytest.raises(IdemvoxError, match=r"50 of 50") as caught:
        spherical_kmeans(torch.full((50, 3), float("nan")), 3)
    assert "49" not in str(caught.value)


def test_clustering_no_rows_is_refused():
    with pytest.raises(IdemvoxError, match="nothing to cluster"):
        spherical_kmeans(torch.zeros(0, 3), 3)


def test_only_the_seed_matters():
    x = cloud()
    torch.manual_seed(1)
    first = spherical_kmeans(x, 12, 5, seed=6)
    torch.manual_seed(2)
    again = spherical_kmeans(x, 12, 5, seed=6)
    other = spherical_kmeans(x, 12, 5, seed=7)
    assert torch.equal(first.centroids, again.centroids) and torch.equal(first.assignment, again.assignment)
    assert not torch.equal(first.assignment, other.assignment)


def test_the_same_call_gives_the_same_bits():
    x = cloud(500)
    first, *others = (spherical_kmeans(x, 40, 8, seed=3) for _ in range(5))
    for other in others:
        assert torch.equal(first.centroids, other.centroids)
        assert torch.equal(first.assignment, other.assignment)
        assert torch.equal(first.similarity, other.similarity)


@pytest.mark.parametrize("in_order", [True, False])
def test_sums_of_clusters_equal_a_loop(in_order):
    x, assignment = cloud(50), torch.randint(0, 9, (50,), generator=torch.Generator().manual_seed(0))
    assignment[assignment == 4] = 5
    expected = torch.zeros(9, 6)
    for row, cluster in zip(x, assignment, strict=True):
        expected[cluster] += row
    torch.testing.assert_close(cluster_sums(x, assignment, 9, in_order), expected)


def test_ids_identify_rows():
    """The order of rows does not matter. Of equally bad rows, the lowest id restarts a cluster."""
    x = torch.cat([cloud(60), cloud(1).expand(60, -1)])
    mixed = torch.randperm(120, generator=torch.Generator().manual_seed(1))
    plain = spherical_kmeans(x, 70, 4)
    other = spherical_kmeans(x[mixed], 70, 4, ids=mixed)
    assert torch.equal(other.assignment, plain.assignment[mixed])
    torch.testing.assert_close(other.centroids, plain.centroids)
    x[5] = torch.nan
    with pytest.raises(IdemvoxError, match=r"1 of 120 .* \(ids 1005\)"):
        spherical_kmeans(x[mixed], 7, ids=mixed + 1000)


def test_kmeans_plus_plus_draws_in_proportion_to_distance():
    """k-means++ with two: the first is any row, the second is drawn in proportion to its distance."""
    x = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.5], [-1.0, 0.3], [0.0, 1.0]]), dim=1)
    counts, seeds = torch.zeros(4, 4), 1000
    for seed in range(seeds):
        start = spherical_kmeans(x, 2, 0, seed, start="kmeans++").centroids
        first, second = ((x - c).norm(dim=1).argmin() for c in start)
        counts[first, second] += 1
    distance = 1 - x @ x.T
    expected = seeds / 4 * distance.fill_diagonal_(0) / distance.sum(1, keepdim=True)
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 1e-6).all()


@pytest.mark.parametrize("k", [50, 64, 65, 150, 200])
def test_kmeans_plus_plus_draws_distinct_rows(k):
    x = normalize(cloud(200), dim=1)
    start = spherical_kmeans(x, k, 0, 1, start="kmeans++").centroids
    rows = torch.cdist(start, x).argmin(1)
    assert len(rows.unique()) == k


def test_kmeans_plus_plus_finds_planted_clusters_where_random_rows_do_not():
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(40, 16, generator=generator), dim=1)
    x = centres.repeat(10, 1) + 0.01 * torch.randn(400, 16, generator=generator)
    objective = {s: spherical_kmeans(x, 40, 10, 0, start=s).objective for s in ("random", "kmeans++")}
    assert objective["kmeans++"] > objective["random"]


def test_the_best_of_several_runs_is_kept():
    x = cloud(seed=2)
    one = spherical_kmeans(x, 12, 3, 7)
    best = spherical_kmeans(x, 12, 3, 7, restarts=5)
    assert torch.equal(spherical_kmeans(x, 12, 3, 7, restarts=1).centroids, one.centroids)
    assert best.objective > one.objective
    with pytest.raises(IdemvoxError, match="1 run or more"):
        spherical_kmeans(x, 2, restarts=0)


def test_the_global_generator_is_not_used():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    spherical_kmeans(cloud(), 5)
    assert torch.equal(torch.rand(1), expected)


def test_the_norm_of_a_row_does_not_matter():
    x = cloud()
    scale = 2.0 ** torch.randint(-10, 11, (200, 1), generator=torch.Generator().manual_seed(0))
    plain, scaled = spherical_kmeans(x, 8, 5), spherical_kmeans(x * scale, 8, 5)
    assert torch.equal(plain.assignment, scaled.assignment)
    torch.testing.assert_close(plain.centroids, scaled.centroids)


@pytest.mark.parametrize("block", [1, 8, 100, 1000])
def test_block_sizes_change_nothing(block, monkeypatch):
    x = cloud()
    whole = spherical_kmeans(x, 8, 5)
    monkeypatch.setattr(nearest, "_BLOCK", block)
    parts = spherical_kmeans(x, 8, 5)
    assert torch.equal(whole.assignment, parts.assignment)
    torch.testing.assert_close(whole.centroids, parts.centroids)


def test_the_input_is_unchanged_and_keeps_no_graph():
    x = cloud().requires_grad_()
    before = x.detach().clone()
    found = spherical_kmeans(x, 4)
    assert torch.equal(x.detach(), before)
    assert not found.centroids.requires_grad and not found.similarity.requires_grad
