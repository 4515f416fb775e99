"""SSPS beyond the paper: agglomeration, clusters of recordings, positives as views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering.whitening import whiten
from idemvox.errors import IdemvoxError
from idemvox.positives import clusters as module
from idemvox.positives import partition
from idemvox.positives.base import Setting
from idemvox.positives.gathered import Gathered
from idemvox.positives.ssps import SSPS

VOICES, RECORDINGS, EACH, DIM = 8, 3, 4, 24
N = VOICES * RECORDINGS * EACH
VOICE = torch.arange(N) % VOICES
RECORDING = torch.arange(N) % (VOICES * RECORDINGS)  # the voice of utterance i is i modulo 8


def references(seed: int = 0) -> Tensor:
    """References in which voices differ most, recordings less and utterances least."""
    generator = torch.Generator().manual_seed(seed)
    voices = torch.randn(VOICES, DIM, generator=generator)
    channels = 0.4 * torch.randn(VOICES * RECORDINGS, DIM, generator=generator)
    return voices[VOICE] + channels[RECORDING] + 0.2 * torch.randn(N, DIM, generator=generator)


def make(*, known: bool = True, seen: Tensor | None = None, **options: Any) -> SSPS:
    """A sampler that has seen references and stored the targets (i, 1) of the utterances i."""
    setting = Setting(N, DIM, 2, seed=0, recordings=RECORDING.numpy() if known else None)
    sampler = SSPS(SSPS.Options(**{"clusters": VOICES, "neighbours": 0, **options}), setting)
    some = torch.arange(N) if seen is None else seen
    sampler.observe(some, references()[some])
    sampler.store(torch.arange(N), torch.stack([torch.arange(N).float(), torch.ones(N)], 1))
    return sampler


def pseudo_positives(sampler: SSPS) -> Tensor:
    """Return (N,) the utterances that replace the positives in a step over all utterances."""
    if sampler.viewed:
        return sampler.pairs(0)
    chosen = sampler(torch.arange(N), torch.zeros(N, 2)).chosen
    assert chosen is not None
    return chosen


def test_agglomeration_finds_the_voices():
    sampler = make(known=False, clusterer="agglomerative")
    numbers = sampler.start_epoch(0)
    assert numbers["clusters"] == VOICES and numbers["cluster_median"] == RECORDINGS * EACH
    for cluster in range(VOICES):
        assert len(VOICE[sampler.assignment == cluster].unique()) == 1


def test_k_means_options_set_its_initialisation_and_restarts(monkeypatch):
    calls = []
    find = partition.spherical_kmeans
    monkeypatch.setattr(partition, "spherical_kmeans", lambda *x, **o: calls.append(o) or find(*x, **o))
    make(known=False, start="kmeans++", restarts=3).start_epoch(0)
    assert (calls[0]["start"], calls[0]["restarts"]) == ("kmeans++", 3)


def test_the_number_of_clusters_is_chosen_without_labels():
    numbers = make(known=False, clusterer="agglomerative", clusters=None).start_epoch(0)
    assert VOICES * 0.75 <= numbers["clusters"] <= VOICES * RECORDINGS


@pytest.mark.parametrize("clusterer", ["kmeans", "agglomerative"])
def test_utterances_of_a_recording_share_a_cluster_even_if_unseen(clusterer):
    seen = torch.arange(N)[RECORDING != 5]
    seen = seen[seen != 3]
    sampler = make(unit="recording", clusterer=clusterer, seen=seen)
    numbers = sampler.start_epoch(0)
    assert numbers["recordings"] == VOICES * RECORDINGS - 1
    for r in range(VOICES * RECORDINGS):
        of = sampler.assignment[r == RECORDING].unique()
        assert len(of) == 1 and (int(of) == sampler.clusters) is (r == 5)


@pytest.mark.parametrize("power", [0.0, 0.7])
def test_recordings_are_clustered_by_the_mean_of_their_whitened_references(monkeypatch, power):
    calls = []
    find = module.find_clusters
    monkeypatch.setattr(module, "find_clusters", lambda x, *rest: calls.append(x) or find(x, *rest))
    make(unit="recording", whiten=power).start_epoch(0)
    x = normalize(whiten(references(), power) if power else references(), dim=1)
    for r in range(VOICES * RECORDINGS):
        torch.testing.assert_close(calls[0][r], x[r == RECORDING].mean(0))


@pytest.mark.parametrize("level", ["embedding", "view"])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_the_pseudo_positive_comes_from_another_recording(level, neighbours):
    sampler = make(unit="recording", clusterer="agglomerative", level=level, neighbours=neighbours)
    sampler.start_epoch(0)
    for _ in range(5):
        chosen = pseudo_positives(sampler)
        assert (chosen >= 0).all() and (RECORDING[chosen] != RECORDING).all()
        assert bool((VOICE[chosen] == VOICE).all()) is (neighbours == 0)


def test_only_the_nearest_recordings_are_drawn():
    sampler = make(unit="recording", clusters=2, clusterer="agglomerative", nearest_recordings=1)
    sampler.start_epoch(0)
    means = normalize(
        torch.stack([normalize(references(), dim=1)[r == RECORDING].mean(0) for r in range(24)]), dim=1
    )
    near = (means @ means.T).fill_diagonal_(-2).argmax(1)
    assert torch.equal(RECORDING[pseudo_positives(sampler)], near[RECORDING])


def test_a_recording_alone_in_its_cluster_keeps_its_positive():
    sampler = make(unit="recording", clusters=VOICES * RECORDINGS, clusterer="agglomerative")
    sampler.start_epoch(0)
    targets = torch.randn(N, 2)
    swap = sampler(torch.arange(N), targets)
    assert torch.equal(swap.targets, targets) and (swap.chosen == -1).all()


def test_positives_not_in_the_queue_are_kept():
    sampler = make(unit="recording", clusterer="agglomerative", queue=N // 2)
    sampler.start_epoch(0)
    assert sampler.queue.size == N // 2
    sampler(torch.arange(8), torch.zeros(8, 2))
    assert make(unit="recording").queue.size == N


def test_views_come_from_partners_and_targets_are_unchanged():
    sampler = make(known=False, clusterer="agglomerative", level="view")
    assert sampler.refresh and not sampler.stores and sampler.queue.vectors.shape == (1, 2)
    assert "queue_filled" not in sampler.start_epoch(3)
    partner = sampler.partners(3)
    assert (partner != np.arange(N)).all() and (VOICE[partner] == VOICE).all()
    assert np.array_equal(partner, sampler.partners(3)) and not np.array_equal(partner, sampler.partners(4))
    targets = torch.randn(N, 2, requires_grad=True)
    swap = Gathered(sampler)(torch.arange(N), targets)
    assert swap.targets is targets and swap.replaced is swap.chosen is swap.offered is swap.groups is None


def test_the_source_of_a_view_is_no_negative():
    """Utterances in the cluster of an anchor, or of the source of its positive view, are masked."""
    sampler = make(known=False, clusterer="agglomerative", level="view", neighbours=1, mask_cluster=True)
    sampler.start_epoch(0)
    ids = torch.arange(VOICES)
    cluster, put_in = sampler.assignment[ids], sampler.assignment[sampler.pairs(0)[ids]]
    related = sampler(ids, torch.zeros(VOICES, 2)).related(ids)
    for a in range(VOICES):
        for b in range(VOICES):
            shared = {int(cluster[a]), int(put_in[a])} & {int(cluster[b]), int(put_in[b])}
            assert bool(related[a, b]) is (a != b and bool(shared))


def test_an_utterance_without_a_direction_is_in_no_cluster():
    sampler = make(known=False, clusterer="agglomerative", queue=N)
    sampler.observe(torch.tensor([5]), torch.zeros(1, DIM))
    sampler.start_epoch(0)
    chosen = pseudo_positives(sampler)
    assert sampler.assignment[5] == sampler.clusters and chosen[5] == -1
    assert (chosen != 5).all() and int((chosen < 0).sum()) == 1


def test_agreement_with_the_previous_epoch_is_logged():
    sampler = make(known=False, clusterer="agglomerative")
    assert "cluster_agreement" not in sampler.start_epoch(0)
    assert sampler.start_epoch(1)["cluster_agreement"] == 1
    sampler.observe(torch.arange(N), references(seed=1)[torch.randperm(N)])
    assert sampler.start_epoch(2)["cluster_agreement"] < 0.5


def test_a_restored_state_has_the_same_pairs():
    options: dict[str, Any] = {"unit": "recording", "nearest_recordings": 2, "level": "view"}
    sampler = make(**options)
    sampler.start_epoch(0)
    state = {name: value.clone() for name, value in sampler.state_dict().items()}
    expected = sampler.partners(0)
    other = make(**options)
    other.observe(torch.arange(N), references(seed=9))
    other.start_epoch(0)
    other.partners(0)
    other.load_state_dict(state)
    assert np.array_equal(other.partners(0), expected)


def test_a_non_finite_reference_is_reported_with_its_utterance():
    for options in ({"unit": "recording"}, {"whiten": 0.5}):
        sampler = make(**options)
        sampler.observe(torch.tensor([7]), torch.full((1, DIM), float("nan")))
        with pytest.raises(IdemvoxError, match=r"1 of 96 .* \(ids 7\)"):
            sampler.start_epoch(0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"clusters": None},
        {"clusterer": "ward"},
        {"unit": "speaker"},
        {"level": "wave"},
        {"exact_up_to": 1},
        {"start": "far"},
        {"restarts": 0},
        {"level": "view", "queue": 9},
        {"level": "view", "sample_from": "train"},
        {"nearest_recordings": 2},
        {"nearest_recordings": 0, "unit": "recording", "neighbours": 0},
        {"nearest_recordings": 2, "unit": "recording", "neighbours": 1},
    ],
    ids=str,
)
def test_impossible_options_are_refused(wrong):
    with pytest.raises(IdemvoxError, match=next(iter(wrong))):
        SSPS.Options(**wrong)


@pytest.mark.parametrize("recordings", [None, np.full(N, -1)])
def test_unknown_recordings_are_refused(recordings):
    setting = Setting(N, DIM, 2, seed=0, recordings=recordings)
    with pytest.raises(IdemvoxError, match="unit=recording needs the recording"):
        SSPS(SSPS.Options(unit="recording"), setting)
    assert not SSPS.needs_recordings(SSPS.Options())
    assert SSPS.needs_recordings(SSPS.Options(unit="recording"))
