"""The variants of SSPS, each compared with a plain loop over the queue."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.batch import Swap
from idemvox.clustering.kmeans import Clusters
from idemvox.errors import IdemvoxError, RecipeError
from idemvox.positives import partition as clustering
from idemvox.positives import queue as queue_module
from idemvox.positives import ssps_centroid
from idemvox.positives.base import Setting
from idemvox.positives.nearest_neighbour import NearestNeighbour
from idemvox.positives.ssps import SSPS
from idemvox.positives.ssps_centroid import CentroidSSPS
from idemvox.recipe import build_options

SAMPLERS = {"representation": SSPS, "centroid": CentroidSSPS, "neighbour": NearestNeighbour}
N, DIM = 40, 4
PARTITION = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3, 3] * 4)  # of 5 clusters; the last is empty
ANGLES = torch.tensor([0.0, 50.0, 90.0, 180.0, 45.0]).deg2rad()
CENTROIDS = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
NEAREST = {0: 1, 1: 2, 2: 1, 3: 2}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batches(seed: int, batch: int = 8) -> list[Tensor]:
    return list(torch.randperm(N, generator=torch.Generator().manual_seed(seed)).split(batch))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch):
    """Return ``make(sampling=..., **options)``: a sampler with a given partition and an empty queue."""

    def build(
        partition: Tensor = PARTITION,
        centroids: Tensor = CENTROIDS,
        sampling: str = "representation",
        **options: Any,
    ) -> Any:
        found = Clusters(centroids, partition, torch.ones(len(partition)))
        monkeypatch.setattr(clustering, "spherical_kmeans", lambda *args, **more: found)
        if sampling != "neighbour":
            options = {"clusters": len(centroids), **options}
        cls = SAMPLERS[sampling]
        sampler = cls(cls.Options(**options), Setting(len(partition), 2, DIM, seed=0))
        sampler.observe(torch.arange(len(partition)), torch.ones(len(partition), 2))
        sampler.start_epoch(0)
        return sampler

    return build


def held(sampler: Any) -> dict[int, Tensor]:
    """Return the queue as a dictionary: utterance -> embedding."""
    held, queue = sampler.queue.held, sampler.queue
    return dict(zip(queue.ids[held].tolist(), queue.vectors[held], strict=True))


def step(sampler: Any, ids: Tensor, targets: Tensor) -> Swap:
    """Take a step and store the targets it offers, as after an optimiser step."""
    swap = sampler(ids, targets)
    sampler.store(ids, swap.offered)
    return swap


# -- representation ---------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("queue", [6, 17, N])
def test_representations_come_from_the_queue(make, queue, neighbours):
    """With evicted and repeated utterances, the choice is always from the right cluster, if there is one."""
    sampler = make(neighbours=neighbours, queue=queue)
    if queue == N:
        sampler.store(torch.arange(N), randn(N, DIM))  # as a table always is after the fill pass
    for n, ids in enumerate([*batches(0), *batches(1), *batches(2, 5)]):
        there, targets = held(sampler), randn(len(ids), DIM, seed=n)
        swap = step(sampler, ids, targets)
        for row, anchor in enumerate(ids.tolist()):
            cluster = int(PARTITION[anchor])
            cluster = NEAREST[cluster] if neighbours else cluster
            members = [u for u in there if PARTITION[u] == cluster and u != anchor]
            chosen = int(swap.chosen[row])
            assert chosen in (members or [-1])
            assert torch.equal(swap.targets[row], targets[row] if chosen < 0 else there[chosen])


# -- centroid ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "as on a GPU"])
@pytest.mark.parametrize("neighbours", [0, 1])
@pytest.mark.parametrize("queue", [6, 17, N])
def test_centroids_are_means_over_the_queue(make, queue, neighbours, device, monkeypatch):
    if device != "cpu":
        monkeypatch.setattr(ssps_centroid, "is_free_to_read", lambda x: False)
        monkeypatch.setattr(ssps_centroid, "_BLOCK", 40)  # several blocks, of which the last is smaller
    sampler = make(sampling="centroid", neighbours=neighbours, queue=queue)
    kept = replaced = 0
    for n, ids in enumerate([*batches(0), *batches(1), *batches(2, 5)]):
        there, targets = held(sampler), 3 * randn(len(ids), DIM, seed=n)
        swap = step(sampler, ids, targets)
        for row, anchor in enumerate(ids.tolist()):
            cluster = int(PARTITION[anchor])
            cluster = NEAREST[cluster] if neighbours else cluster
            members = [v for u, v in there.items() if PARTITION[u] == cluster and u != anchor]
            if members:
                direction = sum(members[1:], members[0])
                expected = direction / direction.norm() * targets[row].norm()
                torch.testing.assert_close(swap.targets[row], expected)
                replaced += 1
            else:
                assert torch.equal(swap.targets[row], targets[row])
                kept += 1
            assert bool(swap.replaced[row]) is bool(members)
        assert swap.chosen.tolist() == [-1] * len(ids)
    assert replaced > 20 and kept > 5


def test_with_two_neighbours_the_centroid_is_of_either(make):
    sampler = make(sampling="centroid", neighbours=2, queue=N)
    vectors = randn(N, DIM)
    sampler.store(torch.arange(N), vectors)
    means = [normalize(vectors[c == PARTITION].sum(0), dim=0) for c in (1, 2)]  # the nearest of cluster 0
    total, cluster = sampler.centroids(torch.zeros(200, dtype=torch.int64))
    found = normalize(total, dim=1)
    first, second = (torch.isclose(found, mean, atol=1e-5).all(1) for mean in means)
    assert (first ^ second).all() and abs(int(first.sum()) - 100) < 5 * math.sqrt(50)
    assert torch.equal(cluster, torch.where(first, 1, 2))


def test_gradient_flows_through_kept_targets_only(make):
    sampler = make(sampling="centroid", neighbours=1, queue=4)
    sampler.store(torch.tensor([1, 3]), randn(2, DIM))
    targets = randn(4, DIM).requires_grad_()
    swap = sampler(torch.tensor([0, 1, 2, 6]), targets)  # clusters 0 1 1 3 draw from clusters 1 2 2 2
    swap.targets.sum().backward()
    assert swap.replaced.tolist() == [True, True, True, True]
    assert torch.equal(targets.grad, torch.zeros(4, DIM))
    targets = randn(2, DIM).requires_grad_()
    sampler = make(sampling="centroid", neighbours=1, queue=4)
    sampler.store(torch.tensor([1]), randn(1, DIM))
    sampler(torch.tensor([1, 0]), targets).targets.sum().backward()
    assert targets.grad.tolist() == [[1.0] * DIM, [0.0] * DIM]


# -- neighbour --------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 50, 1 << 24])
@pytest.mark.parametrize("queue", [6, 17, N])
def test_the_neighbour_is_the_nearest_in_the_queue(make, queue, block, monkeypatch):
    monkeypatch.setattr(queue_module, "_BLOCK", block)
    sampler = make(sampling="neighbour", queue=queue)
    for n, ids in enumerate([*batches(0), *batches(1), *batches(2, 5)]):
        there, targets = held(sampler), randn(len(ids), DIM, seed=n) * (n + 1)
        swap = step(sampler, ids, targets)
        for row, anchor in enumerate(ids.tolist()):
            best, slow = -2.0, -1
            for u, v in there.items():
                cosine = float(v @ targets[row] / (v.norm() * targets[row].norm()))
                if u != anchor and cosine > best:
                    best, slow = cosine, u
            assert int(swap.chosen[row]) == slow and bool(swap.replaced[row]) is (slow >= 0)
            assert torch.equal(swap.targets[row], targets[row] if slow < 0 else there[slow])


def test_half_precision_does_not_change_the_nearest_neighbour(make):
    sampler, ids = make(sampling="neighbour", queue=N), torch.arange(N)
    sampler.store(ids, 1 + 0.01 * randn(N, DIM))  # cosines that bf16 cannot distinguish
    targets = 1 + 0.01 * randn(N, DIM, seed=1)
    expected = sampler.queue.nearest(ids, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sampler.queue.nearest(ids, targets), expected)


def test_neighbours_need_no_reference(make):
    sampler = make(sampling="neighbour", queue=N)
    assert sampler.views() == {} and sampler.needs_fill and sampler.partition() is None
    assert sampler.start_epoch(3) == {"queue_filled": 0.0}
    assert {name.split(".")[0] for name in sampler.state_dict()} == {"queue"}
    half = randn(3, DIM).bfloat16()
    sampler.store(torch.arange(9), randn(9, DIM))
    swap = sampler(torch.arange(3), half)
    assert swap.targets.dtype == torch.bfloat16 and swap.replaced.all()
    assert swap.related(torch.arange(3)) is None


# -- all variants --------------------------------------------------------------------------------


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, int, list[list[int]]]:
    n = draw(st.integers(2, 14))
    sampling = draw(st.sampled_from(list(SAMPLERS)))
    options: dict[str, Any] = {"queue": draw(st.integers(1, 16))}
    if sampling != "neighbour":
        options |= {
            "clusters": draw(st.integers(2, 6)),
            "neighbours": draw(st.integers(0, 3)),
            "choice": draw(st.sampled_from(["uniform", "exponential"])),
            "iterations": 2,
        }
    if sampling == "representation":
        options["sample_from"] = draw(st.sampled_from(["queue", "train"]))
    cls = SAMPLERS[sampling]
    sampler = cls(cls.Options(**options), Setting(n, 3, n, seed=n))
    batch = st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=n)
    return sampler, n, draw(st.lists(batch, min_size=1, max_size=6))


@settings(max_examples=250)
@given(cases())
def test_the_anchor_itself_is_never_chosen(case: tuple[Any, int, list[list[int]]]) -> None:
    """Each utterance's embedding is an axis of its own, so the replacement has no part along the anchor's."""
    sampler, n, steps = case
    sampler.observe(torch.arange(n), randn(n, 3, seed=n))
    sampler.start_epoch(0)
    for row in [list(range(n)), *steps]:
        ids = torch.tensor(row)
        targets = 2 * torch.eye(n)[ids]
        swap = step(sampler, ids, targets)
        out, replaced = swap.targets, swap.replaced
        itself = out[torch.arange(len(ids)), ids]
        assert ((itself == 0) == replaced).all() and (out != 0).any(1).all()
        assert torch.equal(out[~replaced], targets[~replaced])
        assert (swap.chosen != ids).all() and (replaced | (swap.chosen == -1)).all()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(
    ("sampling", "options"),
    [("representation", {}), ("representation", {"sample_from": "train"}), ("centroid", {})],
)
def test_coverage_grows_with_the_queue(make, sampling, options, times):
    """It is 1 - exp(-|Q'| / K) = 63, 86, 95 %; drawn from all utterances, |Q'| / N = 2.5, 5, 7.5 %."""
    clusters, each = 400, 40
    partition, centroids = torch.arange(clusters).repeat(each), normalize(randn(clusters, 3), dim=1)
    sampler = make(partition, centroids, sampling=sampling, queue=times * clusters, **options)
    order = torch.randperm(len(partition), generator=torch.Generator().manual_seed(1))
    sampler.store(order, randn(len(order), DIM))
    hits = 0
    for ids in order.flip(0)[: 20 * 256].split(256):
        hits += int(step(sampler, ids, randn(len(ids), DIM, seed=2)).replaced.sum())
    expected = times / each if options else 1 - math.exp(-times)
    assert hits / (20 * 256) == pytest.approx(expected, abs=0.01 if options else 0.02)


@pytest.mark.parametrize("sampling", ["centroid", "neighbour"])
@pytest.mark.parametrize("queue", [7, N])
def test_restored_within_an_epoch_it_makes_the_same_choices(sampling, queue):
    more = {} if sampling == "neighbour" else {"clusters": 6, "neighbours": 2, "choice": "exponential"}
    cls = SAMPLERS[sampling]
    sampler, other = (cls(cls.Options(queue=queue, **more), Setting(N, 3, DIM, seed=4)) for _ in range(2))
    sampler.observe(torch.arange(N), randn(N, 3))
    sampler.start_epoch(2)
    for n, ids in enumerate(batches(0)):
        step(sampler, ids, randn(len(ids), DIM, seed=n))
    other.load_state_dict({name: value.clone() for name, value in sampler.state_dict().items()})
    for n, ids in enumerate(batches(1)):
        targets = randn(len(ids), DIM, seed=n + 10)
        one, same = step(sampler, ids, targets), step(other, ids, targets)
        assert torch.equal(one.targets, same.targets) and one.replaced.any()


# -- choice -----------------------------------------------------------------------------------


def drawn(sampler: SSPS, anchor: int, draws: int = 6000) -> list[int]:
    """Count how often each cluster is drawn for an anchor."""
    slots = sampler.choose(torch.full((draws,), anchor))
    return PARTITION[sampler.queue.ids[slots]].bincount(minlength=5).tolist()


@pytest.mark.parametrize("decay", [0.7, 2.0])
@pytest.mark.parametrize("neighbours", [2, 3, 9])
def test_nearer_clusters_are_likelier_regardless_of_size(make, decay, neighbours):
    """Clusters 1, 2, 3 are ranked in this order; the empty one has no rank, and missing ranks get nothing."""
    sampler = make(choice="exponential", decay=decay, neighbours=neighbours, queue=N)
    sampler.store(torch.arange(N), torch.zeros(N, DIM))
    found = drawn(sampler, 0)
    weights = [math.exp(-decay * rank) for rank in range(min(neighbours, 3))]
    for rank, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(found[1 + rank] - 6000 * share) < 4 * math.sqrt(6000 * share * (1 - share))
    assert sum(found[1 : 1 + len(weights)]) == 6000


def test_uniform_choice_is_the_default_and_ignores_the_decay(make):
    found = []
    for options in ({}, {"choice": "uniform", "decay": 5.0}, {"choice": "exponential", "decay": 0.0}):
        sampler = make(neighbours=3, queue=N, **options)
        sampler.store(torch.arange(N), torch.zeros(N, DIM))
        found.append(drawn(sampler, 0))
    assert found[0] == found[1] == found[2] and all(
        abs(n - 2000) < 4 * math.sqrt(1333) for n in found[0][1:4]
    )


# -- false negatives --------------------------------------------------------------------------


def test_utterances_of_one_cluster_are_related(make):
    ids = torch.tensor([5, 3, 38, 0, 10, 6, 39])
    assert make()(ids, randn(7, DIM)).related(ids) is None
    sampler = make(mask_cluster=True)
    sampler.assignment[[38, 39]] = (
        sampler.clusters
    )  # unseen utterances are not related to any, nor to each other
    swap = sampler(ids, randn(7, DIM))
    assert not swap.replaced.any()  # nothing is stored
    related = swap.related(ids)
    for row, a in enumerate(ids.tolist()):
        for column, b in enumerate(ids.tolist()):
            slow = a != b and max(a, b) < 38 and PARTITION[a] == PARTITION[b]
            assert bool(related[row, column]) is bool(slow)
    assert related.any()


@pytest.mark.parametrize("neighbours", [0, 1])
def test_a_queue_of_negatives_is_masked_too(make, neighbours):
    """A loop masks the anchor itself and all that share a cluster with it or with its replacement."""
    sampler = make(mask_cluster=True, neighbours=neighbours, queue=N)
    sampler.store(torch.arange(N), randn(N, DIM))
    sampler.assignment[[3, 38, 39]] = sampler.clusters
    ids, others = torch.tensor([5, 3, 38, 0, 11]), torch.tensor([3, -1, 0, 38, 7, -1, 12, 39, 25, 2])
    swap = sampler(ids, randn(5, DIM))
    related = swap.related(ids, others)
    assert related.shape == (5, 10)
    for row, a in enumerate(ids.tolist()):
        mine = {int(sampler.assignment[a])}
        if swap.replaced[row]:
            mine.add(int(sampler.assignment[swap.chosen[row]]))
        for column, b in enumerate(others.tolist()):
            known = b >= 0 and int(sampler.assignment[b]) in mine - {sampler.clusters}
            assert bool(related[row, column]) is (known or a == b)
    assert related.any() and swap.replaced.any()
    with pytest.raises(ValueError, match="5 utterances"):
        swap.related(ids[:3])


@pytest.mark.parametrize("sampling", ["representation", "centroid"])
def test_a_replacement_is_related_by_its_own_cluster(make, sampling):
    """Clusters 1 and 2 draw from each other, so the target of an anchor in 2 belongs to 1."""
    sampler = make(sampling=sampling, neighbours=1, queue=6, mask_cluster=True)
    sampler.store(torch.tensor([1, 2, 3]), randn(3, DIM))  # in clusters 1 1 2; none in 0 or 3
    for ids, stands_for in (
        (torch.tensor([0, 11, 13, 6]), [{0, 1}, {1, 2}, {2, 1}, {3, 2}]),
        (torch.tensor([37, 33]), [{3, 2}, {2, 1}]),  # a batch of another size
    ):
        swap = sampler(ids, randn(len(ids), DIM))
        assert swap.replaced.all()
        expected = [
            [a != b and bool(mine & others) for b, others in enumerate(stands_for)]
            for a, mine in enumerate(stands_for)
        ]
        assert swap.related(ids).tolist() == expected


def test_a_kept_target_is_related_by_its_own_cluster_only(make):
    sampler = make(neighbours=1, queue=6, mask_cluster=True)
    ids = torch.tensor([0, 1, 11, 3])  # nothing is stored
    swap = sampler(ids, randn(4, DIM))
    assert not swap.replaced.any()
    assert swap.related(ids).nonzero().tolist() == [[1, 2], [2, 1]]


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"choice": "nearest"}, "choice must be 'uniform' or 'exponential', not 'nearest'"),
        ({"decay": -0.1}, "decay must be at least 0"),
        ({"decay": float("nan")}, "decay must be at least 0"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(wrong, message):
    with pytest.raises(IdemvoxError, match=message):
        SSPS.Options(**wrong)


@pytest.mark.parametrize("sampling", ["representation", "centroid", "neighbour"])
def test_a_removed_option_is_refused_with_its_new_name(sampling):
    given = {"sampling": sampling, "queue": 9}
    with pytest.raises(
        RecipeError, match=r"positives.sampling was removed.*=ssps_centroid.*=nearest_neighbour"
    ):
        build_options(given, SSPS.Options, "positives")


def test_a_queue_of_neighbours_without_slots_is_refused():
    with pytest.raises(RecipeError, match="queue must be at least 1"):
        NearestNeighbour.Options(queue=0)


def test_the_defaults_are_the_papers():
    o = SSPS.Options()
    assert (o.choice, o.decay, o.mask_cluster) == ("uniform", 0.7, False)
