"""SSPS: which utterances it draws, how often, and how it replaces targets."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.batch import Swap
from idemvox.clustering.kmeans import Clusters
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.positives import partition as clustering
from idemvox.positives.base import Setting
from idemvox.positives.ssps import SSPS

DIM = 3


def on_a_circle(*degrees: float) -> Tensor:
    """Centroids in a plane, so that the nearest ones are easy to see."""
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d)), 0.0] for d in degrees])


class Fixed:
    """A stand-in for k-means: a given partition."""

    def __init__(self, centroids: Tensor, assignment: Tensor) -> None:
        self.found = Clusters(centroids, assignment, torch.ones(len(assignment)))

    def __call__(self, x: Tensor, k: int, iterations: int, seed: int, **sharding: Any) -> Clusters:
        return self.found


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch):
    """Return ``make(assignment, centroids, **options)``: SSPS with a given partition and an empty queue."""

    def build(assignment: list[int] | Tensor, centroids: Tensor, seed: int = 0, **options: Any) -> SSPS:
        partition = torch.as_tensor(assignment)
        monkeypatch.setattr(clustering, "spherical_kmeans", Fixed(centroids, partition))
        setting = Setting(utterances=len(partition), dim=DIM, embedding_dim=2, seed=seed)
        sampler = SSPS(SSPS.Options(clusters=len(centroids), **options), setting)
        sampler.observe(torch.arange(len(partition)), torch.ones(len(partition), DIM))
        sampler.start_epoch(0)
        return sampler

    return build


def fill(sampler: SSPS, *ids: int) -> None:
    """Store the targets (i, 1) of the utterances i, or of all."""
    some = torch.tensor(ids) if ids else torch.arange(sampler.setting.utterances)
    sampler.store(some, torch.stack([some.float(), torch.ones(len(some))], 1))


def chosen(sampler: SSPS, ids: Tensor) -> Tensor:
    """Return the utterance chosen for each id, then move on to the next step."""
    slots = sampler.choose(ids)
    assert slots.max() < sampler.queue.size
    sampler.next_step()
    return torch.where(slots >= 0, sampler.queue.ids[slots.clamp_min(0)], -1)


def counts(sampler: SSPS, anchor: int, draws: int = 6000) -> dict[int, int]:
    """Count how often each utterance is chosen for an anchor."""
    found = torch.cat([chosen(sampler, torch.full((draws // 3,), anchor)) for _ in range(3)])
    values, number = found.unique(return_counts=True)
    return dict(zip(values.tolist(), number.tolist(), strict=True))


def step(sampler: SSPS, ids: Tensor, targets: Tensor) -> Swap:
    """Take a step and store the targets it offers, as after an optimiser step."""
    swap = sampler(ids, targets)
    sampler.store(ids, swap.offered)
    return swap


def assert_uniform(found: dict[int, int], among: set[int]) -> None:
    """Chi-square test with p = 1e-4; the seeds are fixed."""
    assert set(found) == among
    expected = sum(found.values()) / len(among)
    statistic = sum((n - expected) ** 2 / expected for n in found.values())
    degrees = len(among) - 1
    assert statistic < degrees + 4 * math.sqrt(2 * degrees) + 8


# -- choice -------------------------------------------------------------------------------------

CIRCLE = on_a_circle(0, 50, 90, 180)  # nearest: 0 -> 1, 1 -> 2, 2 -> 1, 3 -> 2
PARTITION = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3]


@pytest.mark.parametrize("queue", [9, 10, 100])
@pytest.mark.parametrize("sample_from", ["queue", "train"])
def test_no_neighbours_means_the_other_members_of_the_own_cluster(make, sample_from, queue):
    sampler = make(PARTITION, CIRCLE, neighbours=0, sample_from=sample_from, queue=queue)
    fill(sampler, *range(1, 10), *([0] if queue > 9 else []))
    assert_uniform(
        counts(sampler, 1), {0, 2, 3} if queue > 9 else ({2, 3} if sample_from == "queue" else {-1, 2, 3})
    )
    assert counts(sampler, 7) == {8: 6000}
    assert counts(sampler, 9) == {-1: 6000}  # alone in its cluster


@pytest.mark.parametrize("sample_from", ["queue", "train"])
def test_one_neighbour_is_the_nearest_other_cluster(make, sample_from):
    sampler = make(PARTITION, CIRCLE, neighbours=1, sample_from=sample_from, queue=10)
    fill(sampler)
    assert_uniform(counts(sampler, 0), {4, 5, 6})
    assert_uniform(counts(sampler, 5), {7, 8})
    assert_uniform(counts(sampler, 8), {4, 5, 6})
    assert_uniform(counts(sampler, 9), {7, 8})


def test_two_neighbours_are_equally_likely_whatever_their_size(make):
    sampler = make(PARTITION, CIRCLE, neighbours=2, queue=10)
    fill(sampler)
    found = counts(sampler, 7)  # clusters 1 (3 members) and 0 or 3: 90 degrees both
    first = sum(found[i] for i in (4, 5, 6))
    assert abs(first - 3000) < 5 * math.sqrt(1500)
    found = counts(sampler, 0)  # clusters 1 and 2
    assert_uniform({i: found[i] for i in (4, 5, 6)}, {4, 5, 6})
    assert_uniform({i: found[i] for i in (7, 8)}, {7, 8})
    assert abs(found[7] + found[8] - 3000) < 5 * math.sqrt(1500)
    assert set(found) == {4, 5, 6, 7, 8}


def test_empty_clusters_are_skipped(make):
    """Cluster 1 has no members, so the next nearest cluster is used instead."""
    sampler = make([0, 0, 2, 2, 3], CIRCLE, neighbours=1, queue=5)
    fill(sampler)
    assert set(counts(sampler, 0)) == {2, 3}


def test_a_single_cluster_has_no_neighbour(make):
    sampler = make([1, 1, 1], on_a_circle(0, 50), neighbours=1, queue=3)
    fill(sampler)
    assert chosen(sampler, torch.arange(3)).tolist() == [-1, -1, -1]


def test_there_may_be_more_neighbours_than_clusters(make):
    sampler = make(PARTITION, CIRCLE, neighbours=50, queue=10)
    fill(sampler)
    assert set(counts(sampler, 7)) == set(range(10)) - {7, 8}


def test_only_utterances_in_the_queue_are_drawn(make):
    sampler = make(PARTITION, CIRCLE, neighbours=1, sample_from="queue", queue=4)
    fill(sampler, 0, 4, 6, 9)
    assert_uniform(counts(sampler, 0), {4, 6})
    assert counts(sampler, 4) == {-1: 6000}  # cluster 2 is not in the queue


def test_positives_drawn_from_all_utterances_are_kept_if_not_in_the_queue(make):
    sampler = make(PARTITION, CIRCLE, neighbours=1, sample_from="train", queue=4)
    fill(sampler, 0, 4, 6, 9)
    found = counts(sampler, 0)
    assert_uniform(found, {4, 6, -1})  # 5 is drawn as often but is not in the queue


def test_an_empty_queue_keeps_every_positive(make):
    for sample_from in ("queue", "train"):
        sampler = make(PARTITION, CIRCLE, neighbours=1, sample_from=sample_from, queue=4)
        assert chosen(sampler, torch.arange(10)).tolist() == [-1] * 10


def epoch_coverage(sampler: SSPS, batch: int) -> float:
    n = sampler.setting.utterances
    hits = 0
    for ids in torch.randperm(n, generator=torch.Generator().manual_seed(1)).split(batch):
        found = step(sampler, ids, torch.zeros(len(ids), 2)).chosen
        assert found.shape == ids.shape and ((found >= -1) & (found < n)).all()
        assert (found != ids).all()
        hits += int((found >= 0).sum())
    return hits / n


@pytest.mark.parametrize("neighbours", [0, 1, 2])
@pytest.mark.parametrize(("sample_from", "expected"), [("queue", 1 - math.exp(-1)), ("train", 0.05)])
def test_coverage_is_as_documented(make, sample_from, expected, neighbours):
    """|Q'| = K and N / K utterances per cluster: the chosen cluster has one queue slot on average."""
    clusters, each = 300, 20
    generator = torch.Generator().manual_seed(0)
    centroids = normalize(torch.randn(clusters, DIM, generator=generator), dim=1)
    partition = torch.arange(clusters).repeat(each)
    sampler = make(partition, centroids, neighbours=neighbours, sample_from=sample_from)
    assert sampler.queue.size == clusters
    fill(sampler, *torch.randperm(clusters * each, generator=generator).tolist())
    assert epoch_coverage(sampler, 50) == pytest.approx(
        expected, abs=0.03 if sample_from == "queue" else 0.015
    )


def test_a_queue_with_room_for_all_covers_all(make):
    sampler = make(torch.arange(20).repeat(5), normalize(torch.randn(20, DIM), dim=1), queue=100)
    fill(sampler)
    assert epoch_coverage(sampler, 10) == 1.0


def test_unseen_utterances_are_in_no_cluster():
    setting = Setting(30, DIM, 2, seed=0)
    sampler = SSPS(SSPS.Options(clusters=4, neighbours=1, queue=30), setting)
    ids = torch.arange(0, 30, 2)
    sampler.observe(ids, torch.randn(15, DIM, generator=torch.Generator().manual_seed(0)))
    sampler.start_epoch(0)
    fill(sampler)
    assert (sampler.assignment[1::2] == 4).all() and (sampler.assignment[::2] < 4).all()
    for _ in range(30):
        found = chosen(sampler, torch.arange(30))
        assert (found[1::2] == -1).all() and (found % 2 == 0)[found >= 0].all()


def test_there_may_be_fewer_seen_utterances_than_clusters():
    sampler = SSPS(SSPS.Options(clusters=10, neighbours=9, queue=20), Setting(20, DIM, 2, seed=0))
    sampler.observe(torch.tensor([3, 8, 11]), torch.eye(3))
    sampler.start_epoch(0)
    fill(sampler)
    assert set(counts(sampler, 3)) == {8, 11}


# -- k-means ----------------------------------------------------------------------------------


def planted(clusters: int = 4, each: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    directions = torch.cat([torch.eye(3), -torch.eye(3)])[:clusters].repeat(each, 1)
    return directions + 0.02 * torch.randn(clusters * each, 3, generator=generator)


def test_references_are_clustered():
    references = planted()
    for seed in range(20):  # whether each cluster gets an initial centroid is chance
        sampler = SSPS(SSPS.Options(clusters=4, neighbours=0, queue=32), Setting(32, DIM, 2, seed=seed))
        for ids in torch.randperm(32).split(5):
            sampler.observe(ids, references[ids] * 5)
        numbers = sampler.start_epoch(0)
        if numbers["cluster_cosine"] > 0.99:
            break
    assert numbers["clusters"] == 4 and numbers["cluster_largest"] == 8 and numbers["queue_filled"] == 0
    fill(sampler)
    found = chosen(sampler, torch.arange(32))
    assert torch.equal(found % 4, torch.arange(32) % 4) and (found != torch.arange(32)).all()


def test_each_epoch_clusters_the_latest_references(monkeypatch):
    calls = []

    def spy(x: Tensor, k: int, iterations: int, seed: int, **sharding: Any) -> Clusters:
        calls.append((x.clone(), k, iterations, seed))
        return Clusters(torch.eye(3)[:2], torch.zeros(len(x), dtype=torch.int64), torch.ones(len(x)))

    monkeypatch.setattr(clustering, "spherical_kmeans", spy)
    sampler = SSPS(SSPS.Options(clusters=2, iterations=7), Setting(4, DIM, 2, seed=0))
    sampler.observe(torch.arange(4), torch.zeros(4, DIM))
    sampler.start_epoch(0)
    sampler.observe(torch.tensor([2, 0]), torch.stack([torch.full((DIM,), 2.0), torch.full((DIM,), 9.0)]))
    sampler.start_epoch(1)
    assert calls[1][0][:, 0].tolist() == [9.0, 0.0, 2.0, 0.0]
    assert calls[0][1:3] == (2, 7) and calls[0][3] != calls[1][3]


def test_missing_references_are_reported():
    sampler = SSPS(SSPS.Options(clusters=2), Setting(4, DIM, 2, seed=0))
    with pytest.raises(IdemvoxError, match="fill pass"):
        sampler.start_epoch(0)


def test_a_diverged_encoder_is_reported():
    sampler = SSPS(SSPS.Options(clusters=2), Setting(4, DIM, 2, seed=0))
    sampler.observe(torch.arange(4), torch.full((4, DIM), float("nan")))
    with pytest.raises(IdemvoxError, match="not finite"):
        sampler.start_epoch(0)


def test_a_non_finite_reference_is_reported_with_its_utterance():
    sampler = SSPS(SSPS.Options(clusters=2), Setting(9, DIM, 2, seed=0))
    reference = torch.ones(3, DIM)
    reference[1, 0] = float("inf")
    sampler.observe(torch.tensor([3, 7, 8]), reference)
    with pytest.raises(IdemvoxError, match=r"1 of 3 .* \(ids 7\)"):
        sampler.start_epoch(0)


def test_views_are_one_clean_reference_without_labels():
    assert SSPS.needs_fill and not SSPS.supervised
    sampler = SSPS(SSPS.Options(clusters=2), Setting(4, DIM, 2, seed=0))
    assert sampler.views() == {"reference": Crop(1, 4.0, augment=False)}
    assert sampler.partners(0) is None


def test_defaults_are_the_papers():
    o = SSPS.Options()
    assert (o.clusters, o.neighbours, o.queue, o.sample_from, o.iterations, o.seconds) == (
        25_000,
        1,
        None,
        "queue",
        10,
        4.0,
    )


@pytest.mark.parametrize(
    "wrong", [{"clusters": 1}, {"neighbours": -1}, {"queue": 0}, {"sample_from": "cluster"}], ids=str
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(IdemvoxError, match=next(iter(wrong))):
        SSPS.Options(**wrong)


# -- targets ----------------------------------------------------------------------------------


def test_targets_are_replaced_where_chosen_and_kept_elsewhere(make):
    sampler = make(PARTITION, CIRCLE, neighbours=1, queue=4)
    fill(sampler, 0, 4, 6, 9)
    ids = torch.tensor([1, 4, 2, 7])
    targets = torch.full((4, 2), -5.0)
    swap = sampler(ids, targets)
    assert swap.chosen[1] == -1 and (swap.chosen[[0, 2, 3]] >= 0).all()
    assert torch.equal(swap.targets[1], targets[1])
    for row in (0, 2, 3):
        assert swap.targets[row].tolist() == [float(swap.chosen[row]), 1.0]


def test_targets_are_stored_after_the_optimiser_step(make):
    """No anchor gets a target of its own batch in the same step."""
    sampler = make(PARTITION, CIRCLE, neighbours=1, queue=10)
    ids = torch.arange(10)
    targets = torch.arange(20.0).reshape(10, 2)
    for _ in range(2):  # without an optimiser step the queue stays empty
        swap = sampler(ids, targets)
        assert torch.equal(swap.targets, targets) and torch.equal(swap.offered, targets)
        assert swap.chosen.tolist() == [-1] * 10 and not sampler.queue.held.any()
    sampler.store(ids, swap.offered)
    again = step(sampler, ids, targets + 100)
    hit = again.chosen >= 0
    assert hit.all() and torch.equal(again.targets, targets[again.chosen])  # the old ones
    assert torch.equal(sampler.queue.vectors, targets + 100)


def test_gradient_flows_through_kept_targets_only(make):
    sampler = make(PARTITION, CIRCLE, neighbours=1, queue=4)
    fill(sampler, 0, 4, 6, 9)
    targets = torch.randn(4, 2, requires_grad=True)
    swap = sampler(torch.tensor([1, 4, 2, 5]), targets)
    swap.targets.sum().backward()
    assert not swap.offered.requires_grad
    assert (swap.chosen >= 0).tolist() == [True, False, True, False]
    assert targets.grad.tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    assert not sampler.queue.vectors.requires_grad


def test_the_precision_of_the_targets_is_kept(make):
    sampler = make(PARTITION, CIRCLE, neighbours=1, queue=10)
    fill(sampler)
    swap = sampler(torch.arange(4), torch.zeros(4, 2, dtype=torch.bfloat16))
    assert swap.targets.dtype == torch.bfloat16


def test_choices_depend_only_on_seed_epoch_and_step(make):
    partition, centroids = torch.arange(10).repeat(20), normalize(torch.randn(10, DIM), dim=1)

    def choices(seed: int = 0, epoch: int = 0, steps: int = 1) -> Tensor:
        sampler = make(partition, centroids, seed=seed, queue=200)
        sampler.start_epoch(epoch)
        fill(sampler)
        for _ in range(steps):
            torch.rand(7)  # torch's global generator is not used
            found = chosen(sampler, torch.arange(200))
        return found

    assert torch.equal(choices(), choices())
    for other in (choices(seed=1), choices(epoch=1), choices(steps=2)):
        assert not torch.equal(choices(), other)


def steps(sampler: SSPS, batches: list[Tensor]) -> list[Tensor]:
    found = []
    for ids in batches:
        swap = step(sampler, ids, ids[:, None].float().expand(-1, 2))
        found += [swap.targets, swap.chosen]
    return found


def test_each_step_draws_again(make):
    sampler = make([0] * 20, on_a_circle(0, 90), neighbours=0, queue=20)
    fill(sampler)
    ids = torch.arange(20)
    found = []
    for _ in range(3):
        found.append(sampler(ids, torch.zeros(20, 2)).chosen.tolist())
    assert found[0] != found[1] != found[2] and int(sampler.step) == 3
    sampler.start_epoch(0)
    assert (
        sampler(ids, torch.zeros(20, 2)).chosen.tolist() == found[0]
    )  # starting the same epoch again repeats its draws


@pytest.mark.parametrize("sample_from", ["queue", "train"])
@pytest.mark.parametrize("queue", [5, 6])
def test_each_epoch_draws_from_its_own_clusters(make, monkeypatch, sample_from, queue):
    sampler = make([0, 0, 0, 1, 1, 1], on_a_circle(0, 90), neighbours=0, queue=queue, sample_from=sample_from)
    fill(sampler)
    assert set(counts(sampler, 0)) == {1, 2}
    found = Fixed(on_a_circle(0, 90), torch.tensor([0, 1, 1, 0, 0, 1]))
    monkeypatch.setattr(clustering, "spherical_kmeans", found)
    sampler.start_epoch(1)
    assert set(counts(sampler, 0)) == {3, 4}


@pytest.mark.parametrize("queue", [7, 60])
@pytest.mark.parametrize("sample_from", ["queue", "train"])
def test_restored_within_an_epoch_it_makes_the_same_choices(sample_from, queue):
    generator = torch.Generator().manual_seed(5)
    options = SSPS.Options(clusters=6, neighbours=2, queue=queue, sample_from=sample_from)
    setting = Setting(60, DIM, 2, seed=4)
    sampler, other = SSPS(options, setting), SSPS(options, setting)
    sampler.observe(torch.arange(60), torch.randn(60, DIM, generator=generator))
    fill(sampler)
    sampler.start_epoch(2)
    batches = list(torch.randperm(60, generator=generator).split(6))
    steps(sampler, batches[:4])
    state = {name: value.clone() for name, value in sampler.state_dict().items()}
    expected = steps(sampler, batches[4:])
    other.load_state_dict(state)
    for a, b in zip(expected, steps(other, batches[4:]), strict=True):
        assert torch.equal(a, b)
    assert any((a >= 0).any() for a in expected[1::2])
    for name, value in sampler.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("queue", [25, 40])
def test_a_sampler_in_use_can_be_restored_too(queue):
    """The cached members of clusters are those of the state, not those of the previous epoch."""
    sampler = SSPS(SSPS.Options(clusters=5, neighbours=0, queue=queue), Setting(40, DIM, 2, seed=4))
    generator = torch.Generator().manual_seed(5)
    sampler.observe(torch.arange(40), torch.randn(40, DIM, generator=generator))
    fill(sampler)
    sampler.start_epoch(0)
    state = {name: value.clone() for name, value in sampler.state_dict().items()}
    expected = chosen(sampler, torch.arange(40))
    sampler.observe(torch.arange(40), torch.randn(40, DIM, generator=generator))
    sampler.start_epoch(1)
    chosen(sampler, torch.arange(40))
    sampler.load_state_dict(state)
    assert torch.equal(chosen(sampler, torch.arange(40)), expected)


def test_whitening_finds_the_voice_despite_the_channel():
    """Recordings differ along a few strong axes, voices along many weaker ones."""
    torch.manual_seed(0)
    voices = torch.randn(40, 24).repeat_interleave(8, 0) + 0.5 * torch.randn(320, 24)
    references = torch.cat([voices, 4 * torch.randn(320, 4)], 1)
    everyone, right = torch.arange(320), {}
    for power in (0.0, 0.5):
        options = SSPS.Options(clusters=320, neighbours=1, queue=1000, whiten=power)
        sampler = SSPS(options, Setting(320, 28, 2, seed=0))
        sampler.observe(everyone, references)
        fill(sampler)
        sampler.start_epoch(0)
        right[power] = float((chosen(sampler, everyone) // 8 == everyone // 8).float().mean())
    assert right[0.0] < 0.6 and right[0.5] > 0.75
    with pytest.raises(IdemvoxError, match="whiten must be a power from 0 to 1"):
        SSPS.Options(whiten=2.0)
