"""Crops: which piece of which utterance, as a function of (seed, epoch, utterance, view, crop) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.corpus.crops import Crop, CropDataset, FileSource, Item, collate, draw_seed
from idemvox.errors import IdemvoxError

SECOND = SAMPLE_RATE


class Ramps:
    """Utterance i is i * 100,000 + 0, 1, 2, ...: a crop tells where it was cut."""

    def __init__(self, *seconds: float) -> None:
        self.lengths = [round(s * SECOND) for s in seconds]

    def __len__(self) -> int:
        return len(self.lengths)

    def samples(self, index: int) -> int:
        return self.lengths[index]

    def read(self, index: int, start: int, samples: int) -> np.ndarray:
        wave = index * 100_000 + np.arange(self.lengths[index], dtype=np.float32)
        return wave[start : start + samples]


VIEWS = {
    "anchor": Crop(1, 0.5),
    "positive": Crop(1, 0.5),
    "local": Crop(4, 0.25),
    "reference": Crop(1, 1.0, False),
}


def dataset(*seconds: float, seed: int = 0, **options: object) -> CropDataset:
    return CropDataset(Ramps(*(seconds or (4.0,) * 8)), VIEWS, seed, **options)


def starts(data: CropDataset, index: int) -> dict[str, list[int]]:
    return {name: [int(c[0]) for c in crops] for name, crops in data[index].views.items()}


def test_shapes():
    item = dataset()[3]
    assert item.index == 3
    assert {name: tuple(v.shape) for name, v in item.views.items()} == {
        "anchor": (1, 8000),
        "positive": (1, 8000),
        "local": (4, 4000),
        "reference": (1, 16000),
    }
    assert all(v.dtype == torch.float32 for v in item.views.values())


def test_a_crop_is_a_piece_of_its_utterance():
    for index in range(8):
        for crops in dataset()[index].views.values():
            for crop in crops:
                assert torch.equal(crop, crop[0] + torch.arange(len(crop)))
                assert index * 100_000 <= crop[0] and crop[-1] < index * 100_000 + 4 * SECOND


def test_the_same_again_whatever_was_read_before():
    data = dataset()
    expected = [starts(data, i) for i in range(8)]
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    torch.manual_seed(1)
    again = dataset()
    assert [starts(again, i) for i in reversed(range(8))][::-1] == expected


def test_seed_epoch_utterance_view_and_crop_each_matter():
    data = dataset()
    first = starts(data, 0)
    here = [first["anchor"][0], first["positive"][0], *first["local"]]
    assert len(set(here)) == len(here)
    other = {name: [s - 100_000 for s in found] for name, found in starts(data, 1).items()}
    assert all(other[name] != first[name] for name in VIEWS)
    data.set_epoch(1)
    assert all(starts(data, 0)[name] != first[name] for name in VIEWS)
    data.set_epoch(0)
    assert starts(data, 0) == first
    assert all(starts(dataset(seed=1), 0)[name] != first[name] for name in VIEWS)


def test_starts_are_uniform_from_the_first_to_the_last_possible():
    data = CropDataset(Ramps(0.5 + 9 / SECOND), {"anchor": Crop(1, 0.5)}, 0)
    found = []
    for epoch in range(1000):
        data.set_epoch(epoch)
        found.append(int(data[0].views["anchor"][0, 0]))
    counts = np.bincount(found)
    assert len(counts) == 10 and abs(counts - 100).max() < 5 * np.sqrt(100)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(0, 10))
def test_any_length_gives_the_length_asked_for(length: int, wanted: int, epoch: int) -> None:
    data = CropDataset(Ramps(length / SECOND), {"v": Crop(1, wanted / SECOND)}, 0)
    data.set_epoch(epoch)
    crop = data[0].views["v"][0]
    assert len(crop) == wanted
    if length < wanted:  # wrapped round, never padded
        assert torch.equal(crop, (torch.arange(wanted) % length).float())
    else:
        assert torch.equal(crop, crop[0] + torch.arange(wanted)) and crop[-1] < length


def test_only_the_positive_view_is_cut_from_the_partner():
    data = dataset()
    own = starts(data, 2)
    data.set_epoch(0, np.array([0, 1, 7, 3, 4, 5, 6, 2]))
    found = starts(data, 2)
    assert {name: s[0] // 100_000 for name, s in found.items()} == {
        "anchor": 2,
        "positive": 7,
        "local": 2,
        "reference": 2,
    }
    assert {n: s for n, s in found.items() if n != "positive"} == {
        n: s for n, s in own.items() if n != "positive"
    }
    assert data[2].index == 2  # the item is still the anchor's
    assert starts(data, 3) == starts(dataset(), 3)
    data.set_epoch(0)
    assert starts(data, 2) == own


def test_which_views_are_cut_from_the_partner_can_be_said():
    data = dataset(partnered=frozenset({"local"}))
    data.set_epoch(0, np.arange(8)[::-1].copy())
    assert {name: s[0] // 100_000 for name, s in starts(data, 2).items()} == {
        "anchor": 2,
        "positive": 2,
        "local": 5,
        "reference": 2,
    }


def test_a_partner_may_be_shorter():
    data = CropDataset(Ramps(4.0, 0.1), {"positive": Crop(1, 0.5)}, 0)
    data.set_epoch(0, np.array([1, 0]))
    crop = data[0].views["positive"][0]
    assert torch.equal(crop, 100_000 + (torch.arange(8000) % 1600).float())


def test_crops_of_files_are_that_piece_of_the_file(corpus):
    manifest = corpus.manifest
    data = CropDataset(FileSource(manifest), {"anchor": Crop(2, 0.1), "reference": Crop(1, 4.0)}, 5)
    for index in (0, 23):
        whole = read(manifest.path(manifest[index]))
        item = data[index]
        for crop in item.views["anchor"].numpy():
            windows = np.lib.stride_tricks.sliding_window_view(whole, len(crop))
            assert (windows == crop).all(1).sum() == 1
        wrapped = item.views["reference"][0].numpy()  # longer than the file
        assert np.array_equal(wrapped, np.resize(whole, 4 * SECOND))


def test_a_file_that_has_lost_its_audio_is_reported():
    class Gone(Ramps):
        def read(self, index: int, start: int, samples: int) -> np.ndarray:
            return np.zeros(0, np.float32)

    with pytest.raises(IdemvoxError, match=r"utterance 1 .*2\.00 s.*idemvox prepare"):
        CropDataset(Gone(2.0, 2.0), VIEWS, 0)[1]


def test_collate():
    items = [Item(i, {"a": torch.full((2, 3), float(i)), "b": torch.zeros(1, 5)}) for i in (4, 1)]
    ids, views = collate(items)
    assert ids.tolist() == [4, 1] and ids.dtype == torch.int64
    assert views["a"].shape == (2, 2, 3) and views["b"].shape == (2, 1, 5)
    assert views["a"][:, 0, 0].tolist() == [4.0, 1.0]


def test_seeds_mix_all_their_numbers():
    assert draw_seed(1, 2, 3) == draw_seed(1, 2, 3)
    several = {draw_seed(s, e, i, v) for s in range(5) for e in range(5) for i in range(20) for v in range(3)}
    assert len(several) == 5 * 5 * 20 * 3
    assert all(0 <= seed < 2**63 for seed in several)
    assert draw_seed(1, 2) != draw_seed(2, 1)
