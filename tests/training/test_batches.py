"""From a manifest to batches: their utterances, their order, and the augmentation of each view."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from idemvox.audio.augment import Augmenter
from idemvox.audio.read import read, read_pcm
from idemvox.audio.reverb import Reverb
from idemvox.audio.speed import change_speed
from idemvox.corpus.balance import Balance, BalancedOrder
from idemvox.corpus.crops import Crop, FileSource
from idemvox.corpus.packs.pack import pack
from idemvox.errors import IdemvoxError
from idemvox.positives.base import Setting
from idemvox.positives.same import Same
from idemvox.positives.supervised import Supervised
from idemvox.recipe import Augment
from idemvox.training.data import Batches, build_augmenter, load_pieces

CPU = torch.device("cpu")
VIEWS = {"anchor": Crop(1, 0.2), "positive": Crop(2, 0.2), "reference": Crop(1, 0.3, augment=False)}
SAME = Same(Same.Options(), Setting(24, 4, 4, 0))


@pytest.fixture
def settings(corpus):
    return Augment(noise=corpus.banks / "noise", rooms=corpus.banks / "rooms")


@pytest.fixture
def make(corpus, settings):
    def build(policy: str = "always", seed: int = 0, workers: int = 0, batch: int = 7, **options) -> Batches:
        source = FileSource(corpus.manifest)
        augmenter = build_augmenter(settings.model_copy(update={"policy": policy}), source, seed)
        options = {"views": VIEWS, "classes": None} | options
        return Batches(
            source, augmenter=augmenter, batch=batch, seed=seed, device=CPU, workers=workers, **options
        )

    return build


def ids(batches: Batches, epoch: int) -> list[list[int]]:
    return [b.ids.tolist() for b in batches.epoch(epoch, SAME)]


def test_each_utterance_at_most_once_an_epoch_and_batches_are_full(make):
    batches = make("none", views={"anchor": Crop(1, 0.01)})
    assert batches.steps == 3
    left_out = []
    for epoch in range(60):
        found = ids(batches, epoch)
        assert [len(b) for b in found] == [7, 7, 7]
        flat = [i for batch in found for i in batch]
        assert len(set(flat)) == 21 and set(flat) <= set(range(24))
        left_out.append(frozenset(range(24)) - set(flat))
    assert len(set(left_out)) > 50  # each time, other utterances are left over
    assert set.union(*map(set, left_out)) == set(range(24))


def test_the_order_is_a_function_of_seed_and_epoch(make):
    first = ids(make("none"), 0)
    np.random.seed(3)  # noqa: NPY002 - the global generator must not matter
    torch.manual_seed(3)
    again = make("none")
    assert ids(again, 1) != first and ids(again, 0) == first
    assert ids(make("none", seed=1), 0) != first


def test_the_fill_pass_reads_every_utterance_once(make):
    batches = make("none")
    found = [b.ids.tolist() for b in batches.every(0)]
    assert [len(b) for b in found] == [6, 6, 6, 6]
    assert sorted(i for batch in found for i in batch) == list(range(24))


def test_ranks_share_the_fill_pass(make):
    one = [b.ids.tolist() for b in make(batch=10).every(1)]
    two = [make(batch=5, rank=rank, world=2).every(1) for rank in range(2)]
    assert [len(batch) for batch in one] == [8, 8, 8]
    assert [[*a.ids.tolist(), *b.ids.tolist()] for a, b in zip(*two, strict=True)] == one


def test_the_number_of_workers_changes_nothing(make):
    here, there = (list(make(workers=w, classes=torch.arange(24)).epoch(2, SAME)) for w in (0, 2))
    assert len(here) == len(there) == 3
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.ids, b.ids) and torch.equal(a.classes, b.classes)
        for name in VIEWS:
            assert torch.equal(a.views[name], b.views[name])


def test_crops_and_augmentation_do_not_depend_on_the_batch(make):
    def by_id(batches: Batches) -> dict[int, torch.Tensor]:
        return {
            i: v
            for b in batches.epoch(0, SAME)
            for i, v in zip(b.ids.tolist(), b.views["positive"], strict=True)
        }

    seven, five = by_id(make(batch=7)), by_id(make(batch=5))
    both = seven.keys() & five.keys()
    assert len(both) >= 17
    for i in both:
        torch.testing.assert_close(seven[i], five[i], atol=1e-5, rtol=0)


def test_views_have_the_shapes_of_their_crops(make):
    batch = next(iter(make().epoch(0, SAME)))
    assert {name: tuple(v.shape) for name, v in batch.views.items()} == {
        "anchor": (7, 1, 3200),
        "positive": (7, 2, 3200),
        "reference": (7, 1, 4800),
    }
    assert all(v.dtype == torch.float32 for v in batch.views.values())


def test_an_epoch_resumes_from_any_step(make):
    whole = list(make().epoch(2, SAME))
    for first in range(4):
        rest = list(make().epoch(2, SAME, first=first))
        assert len(rest) == 3 - first
        for a, b in zip(rest, whole[first:], strict=True):
            assert torch.equal(a.ids, b.ids) and torch.equal(a.views["positive"], b.views["positive"])


def test_ranks_share_each_epoch(make):
    """Two ranks with batches of 4 read the same utterances as one rank with batches of 8, each once."""
    alone = make(batch=8)
    both = [make(batch=4, rank=rank, world=2) for rank in range(2)]
    assert [b.steps for b in both] == [alone.steps] * 2 == [3, 3]
    for whole, *parts in zip(alone.epoch(1, SAME), *(b.epoch(1, SAME) for b in both), strict=True):
        assert torch.equal(whole.ids, torch.cat([p.ids for p in parts]))
        anchors = torch.cat([p.views["anchor"] for p in parts])
        torch.testing.assert_close(whole.views["anchor"], anchors, atol=1e-5, rtol=0)
    seen = [i for b in both for batch in b.every(1) for i in batch.ids.tolist()]
    assert sorted(seen) == list(range(24))


def test_read_ahead_stops_with_the_epoch(make):
    """Also if the rest of the epoch is not taken, or a read fails."""
    others = set(threading.enumerate())  # of failed runs whose tracebacks still hold them
    batches = make(workers=2)
    batch = next(some := batches.epoch(0, SAME))
    some.close()
    assert len(batch.ids) == 7
    assert not [t for t in set(threading.enumerate()) - others if t.name.startswith("reader")]
    batches.cropper.source._paths[int(batch.ids[0])] += ".gone"
    with pytest.raises(IdemvoxError, match=r"\.gone"):
        list(batches.epoch(0, SAME))
    assert not [t for t in set(threading.enumerate()) - others if t.name.startswith("reader")]


def test_all_augmented_views_of_an_utterance_have_one_speed(make):
    speeds = (0.8, 1.0, 1.25)
    labels = torch.arange(24)
    batches = make("none", speeds=speeds, classes=labels)
    plain = make("none")
    seen = set()
    for batch, other in zip(batches.epoch(0, SAME), plain.epoch(0, SAME), strict=True):
        speed = batches.cropper.speed(batch.ids.numpy(), 0)
        assert torch.equal(batch.classes, batch.ids + 24 * torch.from_numpy(speed))
        assert torch.equal(batch.views["reference"], other.views["reference"])  # clean views are not changed
        assert all(batch.views[name].shape == other.views[name].shape for name in VIEWS)
        seen |= {int(s) for s in speed}
        for row, number in enumerate(speed):
            index = int(batch.ids[row])
            start = batches.cropper.starts(np.array([index]), 0)["positive"][1][0]
            for crop, at in zip(batch.views["positive"][row], start, strict=True):
                source = np.zeros(int(np.ceil(3200 * speeds[number])), np.int16)
                batches.cropper.source.read_into(index, at, source)
                wave = torch.from_numpy(source)[None].float() / 32768
                torch.testing.assert_close(crop, change_speed(wave, speeds[number], 3200)[0])
    assert seen == {0, 1, 2}


def test_waiting_for_audio_is_measured(make, monkeypatch):
    batches = make("none", workers=0)  # a reader works only while the consumer waits
    now, takes, read = [0.0], [9.0], batches.cropper.read
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slowly(*args):
        now[0] += takes[0]
        return read(*args)

    def share():
        for _ in batches.epoch(0, SAME):
            now[0] += 1  # a step
        return batches.audio_wait.share()

    monkeypatch.setattr(batches.cropper, "read", slowly)
    assert share() == pytest.approx(0.9)
    advice = batches.audio_wait.advice(1, packed=False)
    assert "90%" in advice and "idemvox pack" in advice and "training.workers" in advice
    assert "idemvox pack" not in batches.audio_wait.advice(1, packed=True)
    takes[0] = 1 / 9
    assert share() == pytest.approx(0.1)
    batches.audio_wait.restart()
    assert batches.audio_wait.share() == 0 and batches.audio_wait.advice(1, packed=False) is None


def test_classes_are_present_only_if_given(make):
    assert all(b.classes is None for b in make("none").epoch(0, SAME))
    labels = torch.arange(24) * 10
    for batch in make("none", classes=labels).epoch(0, SAME):
        assert torch.equal(batch.classes, batch.ids * 10)


SPEAKERS = torch.arange(24) // 4


def test_balanced_batches_have_pairs_of_speakers(make):
    options = {"views": {"anchor": Crop(1, 0.01)}, "classes": SPEAKERS, "balance": Balance(2, 100)}
    batches = make("none", batch=8, **options)
    found = list(batches.epoch(1, SAME))
    assert len(found) == batches.steps == 3
    expected = BalancedOrder(SPEAKERS.numpy(), 8, Balance(2, 100), 0).epoch(1)
    assert np.array_equal(torch.stack([b.ids for b in found]), expected)
    for batch in found:
        assert torch.equal(batch.classes, SPEAKERS[batch.ids])
        assert torch.equal(batch.classes[::2], batch.classes[1::2]) and len(batch.classes.unique()) == 4
    rest = list(make("none", batch=8, **options).epoch(1, SAME, first=2))
    assert [b.ids.tolist() for b in rest] == [found[2].ids.tolist()]
    ranks = [make("none", batch=4, rank=r, world=2, **options) for r in range(2)]
    for whole, *parts in zip(found, *(r.epoch(1, SAME) for r in ranks), strict=True):
        assert torch.equal(whole.ids, torch.cat([p.ids for p in parts]))
    assert sorted(i for b in batches.every(0) for i in b.ids.tolist()) == list(
        range(24)
    )  # a fill pass reads all


def test_impossible_balanced_batches_are_refused(make):
    with pytest.raises(ValueError, match="only a supervised framework may use"):
        make("none", balance=Balance(2, 100))
    with pytest.raises(IdemvoxError, match=r"6 classes have 2 utterances"):
        make("none", batch=14, classes=SPEAKERS, balance=Balance(2, 100))
    with pytest.raises(IdemvoxError, match=r"splits a class into several voices.*leave out augment\.speeds"):
        make("none", batch=8, classes=SPEAKERS, balance=Balance(2, 100), speeds=(0.9, 1.0))


def test_only_the_reference_stays_clean(make, corpus):
    batches = make("always")
    plain = make("none")
    for augmented, clean in zip(batches.epoch(0, SAME), plain.epoch(0, SAME), strict=True):
        assert torch.equal(augmented.views["reference"], clean.views["reference"])
        for name in ("anchor", "positive"):
            change = (augmented.views[name] - clean.views[name]).abs().amax(-1)
            assert (change > 1e-3).all()
    manifest = corpus.manifest
    whole = read(manifest.path(manifest[int(augmented.ids[0])]))
    crop = augmented.views["reference"][0, 0].numpy()
    assert (np.lib.stride_tricks.sliding_window_view(whole, len(crop)) == crop).all(1).any()


def draws_of(batches: Batches, monkeypatch) -> tuple[list[int], list[float]]:
    """Return the seeds of the crops of three epochs, and the SNRs drawn from them."""
    seeds, ratios = [], []
    draw = Augmenter.draw

    def spy(self: Augmenter, some, samples: int):
        drawn = draw(self, some, samples)
        seeds.extend(some.tolist())
        ratios.extend(drawn.snr_db.tolist())
        return drawn

    monkeypatch.setattr(Augmenter, "draw", spy)
    for epoch in range(3):
        list(batches.epoch(epoch, SAME))
    return seeds, ratios


def test_no_two_crops_share_a_draw(make, monkeypatch):
    """Seed and draws differ between epochs, utterances, views, and the crops of a view."""
    seeds, ratios = draws_of(make("always"), monkeypatch)
    assert len(seeds) == 3 * 21 * 3 == len(set(seeds))  # one anchor and two positive crops; no reference
    assert len(set(ratios)) == len(ratios)


def test_views_share_draws_if_the_framework_asks_for_it(make, monkeypatch):
    """AAT: the discriminator must tell pairs with one augmentation from pairs with two."""
    views = {
        "anchor": Crop(1, 0.2, disjoint=True),
        "positive": Crop(1, 0.2, disjoint=True),
        "shared": Crop(1, 0.2, cut_as="positive", augment_as="anchor"),
    }
    seeds, _ = draws_of(make("aat-3", views=views), monkeypatch)
    assert len(seeds) == 3 * 21 * 3 and len(set(seeds)) == 3 * 21 * 2
    for clean, batch in zip(*(make(p, views=views).epoch(0, SAME) for p in ("none", "aat-3")), strict=True):
        assert torch.equal(clean.views["shared"], clean.views["positive"])
        assert not torch.equal(batch.views["shared"], batch.views["positive"])


def test_draws_follow_the_seed_of_the_run(make):
    one, other = (next(iter(make(seed=s).epoch(0, SAME))) for s in (0, 0))
    assert torch.equal(one.views["anchor"], other.views["anchor"])


def test_the_positive_view_is_cut_from_the_partner(make, corpus):
    manifest = corpus.manifest
    speakers = np.array([int(u.speaker[1:]) for u in manifest])
    sampler = Supervised(Supervised.Options(), Setting(24, 4, 4, 0, speakers))
    partner = sampler.partners(4)
    batches = make("none")
    for batch in batches.epoch(4, sampler):
        for i, views in zip(batch.ids.tolist(), batch.views["positive"], strict=True):
            whole = read(manifest.path(manifest[int(partner[i])]))
            windows = np.lib.stride_tricks.sliding_window_view(whole, 3200)
            assert (windows[:, ::100] == views[0, ::100].numpy()).all(1).any()


def test_a_batch_larger_than_the_corpus_is_refused(make):
    assert make("none", batch=24).steps == 1
    with pytest.raises(
        IdemvoxError, match=r"24 utterances, fewer than one batch of 25; lower training\.batch"
    ):
        make("none", batch=25)


# -- the augmenter that a recipe asks for -----------------------------------------------------


def test_folders_and_their_substitutes(corpus, settings):
    source = FileSource(corpus.manifest)
    given = build_augmenter(settings, source, 0)
    assert sorted(given.noises) == ["noise", "speech"]
    assert (len(given.noises["noise"]), len(given.reverb), len(given.noises["speech"])) == (3, 3, 24)
    with_music = settings.model_copy(
        update={"music": corpus.banks / "noise", "speech": corpus.banks / "noise"}
    )
    everything = build_augmenter(with_music, source, 0)
    assert sorted(everything.noises) == ["music", "noise", "speech"] and len(everything.noises["speech"]) == 3
    bare = build_augmenter(Augment(simulated_rooms=2, babble=(1, 1)), source, 0)
    assert len(bare.reverb) == 2 and len(bare.noises["noise"]) > 10 and bare.babble == (1, 1)


def test_babble_is_made_of_the_training_audio(corpus, settings):
    manifest = corpus.manifest
    bank = build_augmenter(settings, FileSource(manifest), 0).noises["speech"]
    firsts = bank.take(np.arange(24), np.zeros(24, np.int64), 500)
    utterances = torch.stack([torch.from_numpy(read(manifest.path(u), 0, 500)) for u in manifest])
    assert (torch.cdist(firsts, utterances).argmin(1).sort().values == torch.arange(24)).all()


def test_no_augmentation_loads_nothing():
    augmenter = build_augmenter(Augment(policy="none", noise="/nowhere", rooms="/nowhere"), None, 0)
    assert augmenter.idle and augmenter.reverb is None
    assert not build_augmenter(Augment(policy="none", telephone=0.5), None, 0).idle


def test_banks_come_from_folders_manifests_and_packs_alike(corpus, tmp_path):
    manifest = corpus.manifest
    pack(corpus.labelled, tmp_path / "pack", progress=False)
    wanted = sorted(read_pcm(manifest.path(u), 0, 16_000).tobytes() for u in manifest)
    for path in (corpus.labelled, tmp_path / "pack"):
        assert sorted(p.tobytes() for p in load_pieces(path, seconds=1.0)) == wanted
        few = load_pieces(path, seconds=1.0, max_hours=4.5 / 3600)
        assert len(few) == 5
        settings = Augment(noise=path, rooms=path)
        augmenter = build_augmenter(settings, FileSource(manifest), 0)
        assert isinstance(augmenter.reverb, Reverb)
        assert len(augmenter.reverb) == len(augmenter.noises["noise"]) == 24


def test_a_missing_folder_is_reported(corpus, settings):
    with pytest.raises(IdemvoxError, match="/nowhere does not exist"):
        build_augmenter(
            settings.model_copy(update={"music": corpus.banks.parent / "nowhere"}),
            FileSource(corpus.manifest),
            0,
        )
