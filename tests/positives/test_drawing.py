"""Which clusters are near, which one is drawn, and which of its members."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from idemvox.positives import drawing
from idemvox.positives.drawing import Buckets, draw_rank, draw_slots, nearest_clusters
from idemvox.positives.queue import EmbeddingQueue

CLUSTER = torch.tensor(
    [2, 0, 2, 5, 0, 2, 4, 2]
)  # members of 0: 1 4; of 2: 0 2 5 7; of 4: 6; 1 and 3 are empty
NOBODY = 3  # is in none


def test_a_bucket_gives_each_member_an_equal_part_of_the_unit_interval():
    buckets = Buckets(CLUSTER, 5)
    for cluster, members in {0: [1, 4], 2: [0, 2, 5, 7], 4: [6]}.items():
        grid = (torch.arange(10 * len(members)) + 0.5) / (10 * len(members))
        anchors = torch.full((len(grid),), NOBODY)
        found = buckets.draw(torch.full_like(anchors, cluster), anchors, grid)
        assert found.bincount(minlength=8).tolist() == [10 if m in members else 0 for m in range(8)]


@pytest.mark.parametrize("without", [0, 2, 5, 7])
def test_leaving_out_a_member_keeps_the_others_equally_likely(without):
    grid = (torch.arange(30) + 0.5) / 30
    found = Buckets(CLUSTER, 5).draw(torch.full((30,), 2), torch.full((30,), without), grid)
    assert found.bincount(minlength=8).tolist() == [
        10 if m in {0, 2, 5, 7} - {without} else 0 for m in range(8)
    ]


@pytest.mark.parametrize("without", range(8))
@pytest.mark.parametrize(
    "pushed", [[], [0], [2, 6], [0, 5, 7], [1, 2, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7], [5, 2, 7, 0, 5, 1, 2]]
)
def test_utterances_in_the_queue_are_equally_likely(pushed, without):
    """Also when utterances have been overwritten or stored twice."""
    queue = EmbeddingQueue(5, 1, 8)
    for utterance in pushed:
        queue.push(torch.tensor([utterance]), torch.ones(1, 1))
    cluster_of = torch.where(queue.ids >= 0, CLUSTER[queue.ids], 5)
    for cluster, members in ((0, {1, 4}), (2, {0, 2, 5, 7}), (4, {6}), (1, set()), (-1, set())):
        left = sorted(members & set(pushed[-5:]) - {without})
        grid = (torch.arange(12) + 0.5) / 12
        others = torch.tensor([0, 1, 4])  # drawing from their clusters too changes nothing
        slots = draw_slots(
            queue,
            cluster_of,
            torch.cat([torch.full((12,), cluster), others]),
            torch.cat([grid, grid[:3]]),
            5,
            torch.cat([torch.full((12,), without), others]),
        )[:12]
        assert queue.held[slots[slots >= 0]].all()
        drawn = queue.ids[slots[slots >= 0]]
        expected = [12 // len(left) if m in left else 0 for m in range(8)] if left else [0] * 8
        assert drawn.bincount(minlength=8).tolist() == expected
        assert left or (slots == -1).all()


def test_queue_size_times_batch_size_may_exceed_32_bits():
    size, clusters = 1 << 20, 1 << 12
    queue, utterances = EmbeddingQueue(size, 1, size + 1), torch.arange(size)
    queue.push(utterances, torch.ones(size, 1))
    cluster_of = (utterances % clusters).int()
    anchors = torch.arange(clusters)
    for uniform in (torch.zeros(clusters), torch.full((clusters,), 0.999)):
        drawn = draw_slots(queue, cluster_of, anchors, uniform, clusters, anchors)
        assert torch.equal(cluster_of[drawn].long(), anchors)
        assert (drawn != anchors).all()


def test_leaving_out_a_member_of_another_cluster_changes_nothing():
    buckets = Buckets(CLUSTER, 5)
    grid = (torch.arange(40) + 0.5) / 40
    plain = buckets.draw(torch.full((40,), 2), torch.full((40,), NOBODY), grid)
    for other in (1, 3, 4, 6):
        assert torch.equal(buckets.draw(torch.full((40,), 2), torch.full((40,), other), grid), plain)


def test_an_empty_choice_draws_nothing():
    buckets = Buckets(CLUSTER, 5)
    cluster = torch.tensor([-1, 1, 3, 4, 4])
    without = torch.tensor([NOBODY, NOBODY, 0, 6, NOBODY])
    assert buckets.draw(cluster, without, torch.full((5,), 0.7)).tolist() == [-1, -1, -1, -1, 6]
    nobody = Buckets(torch.full((5,), 3), 3)
    assert nobody.draw(torch.tensor([0, -1]), torch.tensor([NOBODY, 2]), torch.rand(2)).tolist() == [-1, -1]


def test_draws_at_the_ends_of_the_unit_interval():
    last = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    found = Buckets(CLUSTER, 5).draw(
        torch.tensor([2, 2]), torch.tensor([NOBODY, NOBODY]), torch.stack([0 * last, last])
    )
    assert found.tolist() == [0, 7]


@pytest.mark.parametrize("block", [1, 50, 1 << 26])
def test_nearest_clusters_match_brute_force(block, monkeypatch):
    monkeypatch.setattr(drawing, "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    centroids = normalize(torch.randn(20, 4, generator=generator), dim=1)
    occupied = torch.rand(20, generator=generator) < 0.7
    assert not occupied.all()
    near = nearest_clusters(centroids, occupied, 5)
    for c in range(20):
        others = [j for j in range(20) if j != c and occupied[j]]
        others.sort(key=lambda j: -float(centroids[c] @ centroids[j]))
        assert near[c].tolist() == others[:5]


def test_missing_neighbours_are_marked_by_minus_one():
    angles = torch.tensor([0.0, 10.0, 30.0, 61.0]).deg2rad()
    centroids = torch.stack([angles.cos(), angles.sin()], 1)
    near = nearest_clusters(centroids, torch.tensor([True, True, False, True]), 4)
    assert near.tolist() == [[1, 3, -1, -1], [0, 3, -1, -1], [1, 0, 3, -1], [1, 0, -1, -1]]


@pytest.mark.parametrize("decay", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("available", [1, 3, 5])
def test_a_rank_is_drawn_in_proportion_to_its_weight(available, decay):
    """Compared with a walk along the interval; missing ranks have no part of it."""
    weights = [math.exp(-decay * r) for r in range(5)]
    for u in torch.arange(0.005, 1, 0.01).tolist():
        left, slow = u * sum(weights[:available]), 0
        while left >= weights[slow]:
            left, slow = left - weights[slow], slow + 1
        found = draw_rank(torch.tensor([available]), torch.tensor(weights), torch.tensor([u]))
        assert found.tolist() == [slow]


def test_ranks_at_the_ends_of_the_unit_interval():
    last = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    found = draw_rank(torch.tensor([0, 4, 4]), torch.ones(4), torch.stack([last, last, 0 * last]))
    assert found.tolist() == [0, 3, 0]


def test_members_of_several_clusters_are_listed():
    members, begin = Buckets(CLUSTER, 5).all_of(torch.tensor([1, 2, -1, 0, 2, 3]))
    assert members.tolist() == [0, 2, 5, 7, 1, 4, 0, 2, 5, 7] and begin.tolist() == [0, 0, 4, 4, 6, 10]
    nobody, begin = Buckets(CLUSTER, 5).all_of(torch.tensor([-1, 1]))
    assert len(nobody) == 0 and begin.tolist() == [0, 0]
