"""Crops: their positions are a function of (seed, epoch, utterance, view, crop) only."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.audio.read import SAMPLE_RATE, read_pcm
from idemvox.corpus.crops import Crop, Cropper, FileSource, Views
from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError

SECOND = SAMPLE_RATE
STEP = 2_000  # samples that share a value in Ramps


class Ramps:
    """Sample n of utterance i is i * 100 + n // STEP, which gives the position of a crop to within STEP."""

    def __init__(self, *seconds: float) -> None:
        self.lengths = np.array([round(s * SECOND) for s in seconds], np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def read_into(self, index: int, start: int, out: np.ndarray) -> int:
        count = min(len(out), max(int(self.lengths[index]) - start, 0))
        out[:count] = index * 100 + np.arange(start, start + count) // STEP
        return count


VIEWS = {
    "anchor": Crop(1, 0.5),
    "positive": Crop(1, 0.5),
    "local": Crop(4, 0.25),
    "reference": Crop(1, 1.0, False),
}


def cropper(*seconds: float, seed: int = 0, views: Views = VIEWS, **options: object) -> Cropper:
    return Cropper(Ramps(*(seconds or (4.0,) * 8)), views, seed, **options)


def cut(
    data: Cropper, ids: list[int], epoch: int = 0, partners: list[int] | None = None
) -> dict[str, np.ndarray]:
    out = {name: np.zeros((len(ids), c.count, c.samples), np.int16) for name, c in data.views.items()}
    data.read(np.array(ids), epoch, out, None if partners is None else np.array(partners))
    return out


def starts(
    data: Cropper, index: int, epoch: int = 0, partners: list[int] | None = None
) -> dict[str, tuple[int, list[int]]]:
    found = data.starts(np.array([index]), epoch, None if partners is None else np.array(partners))
    return {name: (int(whose[0]), first[0].tolist()) for name, (whose, first) in found.items()}


def test_shapes_and_types():
    assert {name: v.shape for name, v in cut(cropper(), [3, 5]).items()} == {
        "anchor": (2, 1, 8000),
        "positive": (2, 1, 8000),
        "local": (2, 4, 4000),
        "reference": (2, 1, 16000),
    }


def test_crops_begin_where_the_starts_say():
    data = cropper()
    found = cut(data, list(range(8)), 3)
    for name, (whose, first) in data.starts(np.arange(8), 3).items():
        for i in range(8):
            assert whose[i] == i
            for crop, start in zip(found[name][i], first[i], strict=True):
                assert 0 <= start <= 4 * SECOND - len(crop)
                assert np.array_equal(crop, i * 100 + np.arange(start, start + len(crop)) // STEP)


def test_a_crop_does_not_depend_on_the_others_in_the_batch():
    data = cropper()
    together = cut(data, list(range(8)))
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    for i in reversed(range(8)):
        for name, crops in cut(cropper(), [i]).items():
            assert np.array_equal(crops[0], together[name][i])


def test_seed_epoch_utterance_view_and_crop_all_matter():
    data = cropper()
    first = starts(data, 0)
    here = [start for _, found in first.values() for start in found]
    assert len(set(here)) == len(here)
    for other in (starts(data, 1), starts(data, 0, epoch=1), starts(cropper(seed=1), 0)):
        assert all(other[name][1] != first[name][1] for name in VIEWS)
    assert starts(data, 0) == first


def test_other_views_do_not_change_a_views_crops():
    few = cropper(views={"reference": VIEWS["reference"], "anchor": VIEWS["anchor"]})
    assert starts(few, 5) == {name: starts(cropper(), 5)[name] for name in ("reference", "anchor")}


def test_only_the_requested_views_are_read():
    data = cropper()
    out = {"anchor": np.zeros((1, 1, 8000), np.int16)}
    data.read(np.array([2]), 0, out)
    assert np.array_equal(out["anchor"], cut(data, [2])["anchor"])


def test_waves_are_the_same_samples_scaled_to_one():
    data = cropper(0.3, 4.0)  # the first one is wrapped around
    out = {"anchor": np.zeros((2, 1, 8000), np.float32), "local": np.zeros((2, 4, 4000), np.int16)}
    data.read(np.array([0, 1]), 0, out)
    pcm = cut(data, [0, 1])
    assert np.array_equal(out["anchor"], pcm["anchor"] / np.float32(32768)) and out["anchor"].any()
    assert np.array_equal(out["local"], pcm["local"])


def test_starts_are_uniform_over_all_possible_ones():
    data = cropper(0.5 + 9 / SECOND, views={"anchor": Crop(1, 0.5)})
    counts = np.bincount([starts(data, 0, epoch)["anchor"][1][0] for epoch in range(1000)])
    assert len(counts) == 10 and abs(counts - 100).max() < 5 * np.sqrt(100)


@settings(max_examples=60)
@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(0, 10))
def test_utterances_of_any_length_give_full_crops(length: int, wanted: int, epoch: int) -> None:
    data = cropper(length / SECOND, views={"v": Crop(1, wanted / SECOND)})
    (crop,) = cut(data, [0], epoch)["v"][0]
    start = starts(data, 0, epoch)["v"][1][0]
    assert len(crop) == wanted and (start == 0 if length < wanted else start + wanted <= length)
    # a shorter one is wrapped around, never padded
    assert np.array_equal(crop, (start + np.arange(wanted)) % length // STEP)


# -- partners ---------------------------------------------------------------------------------


def test_only_the_positive_view_is_cut_from_the_partner():
    data, partners = cropper(), [0, 1, 7, 3, 4, 5, 6, 2]
    alone, found = starts(data, 2), starts(data, 2, partners=partners)
    assert {name: whose for name, (whose, _) in found.items()} == {
        "anchor": 2,
        "positive": 7,
        "local": 2,
        "reference": 2,
    }
    assert {n: s for n, s in found.items() if n != "positive"} == {
        n: s for n, s in alone.items() if n != "positive"
    }
    assert starts(data, 3, partners=partners) == starts(data, 3)


def test_the_views_cut_from_the_partner_can_be_chosen():
    found = starts(cropper(partnered={"local"}), 2, partners=list(range(8))[::-1])
    assert {name: whose for name, (whose, _) in found.items()} == {
        "anchor": 2,
        "positive": 2,
        "local": 5,
        "reference": 2,
    }


def test_a_partner_may_be_shorter():
    data = cropper(4.0, 0.2, views={"positive": Crop(1, 0.5)})
    (crop,) = cut(data, [0], partners=[1, 0])["positive"][0]
    assert np.array_equal(crop, 100 + np.arange(8000) % 3200 // STEP)


# -- disjoint crops ---------------------------------------------------------------------------

APART = {
    "anchor": Crop(1, 1.8, disjoint=True),
    "positive": Crop(2, 1.0, disjoint=True),
    "reference": Crop(1, 4.0, augment=False),
}


def intervals(data: Cropper, index: int, epoch: int) -> list[tuple[int, int]]:
    found = starts(data, index, epoch)
    return sorted(
        (s, s + data.views[name].samples) for name in ("anchor", "positive") for s in found[name][1]
    )


@pytest.mark.parametrize("seconds", [3.8, 3.9, 5.0, 30.0])
def test_disjoint_crops_do_not_overlap(seconds):
    data = cropper(seconds, views=APART)
    orders, firsts = set(), []
    for epoch in range(300):
        found = intervals(data, 0, epoch)
        assert found[0][0] >= 0 and found[-1][1] <= round(seconds * SECOND)
        assert all(end <= begin for (_, end), (begin, _) in pairwise(found))
        orders.add(
            tuple(np.argsort([s for n in ("anchor", "positive") for s in starts(data, 0, epoch)[n][1]]))
        )
        firsts.append(found[0][0])
    assert len(orders) == 6  # any may come first
    assert (max(firsts) == 0) == (seconds == 3.8)  # no room to move, or some


def test_the_gaps_between_disjoint_crops_are_uniform():
    views = {"a": Crop(2, 1.0, disjoint=True)}
    data = cropper(5.0, views=views)
    gaps = []
    for epoch in range(2000):
        first, second = sorted(starts(data, 0, epoch)["a"][1])
        gaps.append((first, second - first - SECOND, 4 * SECOND - second))
    assert np.abs(np.mean(gaps, axis=0) - SECOND).max() < 5 * SECOND / np.sqrt(2000)  # 3 s in three parts


def test_in_a_short_utterance_disjoint_crops_are_as_far_apart_as_possible():
    views = {"a": Crop(1, 1.8, disjoint=True), "b": Crop(1, 1.8, disjoint=True)}
    data = cropper(2.8, 1.0, views=views)
    assert {tuple(starts(data, 0, e)[n][1][0] for n in "ab") for e in range(20)} == {(0, SECOND), (SECOND, 0)}
    assert starts(data, 1) == {"a": (1, [0]), "b": (1, [0])}


def test_a_disjoint_positive_may_lie_anywhere_in_another_utterance():
    data = cropper(4.0, 4.0, views={n: replace(APART["anchor"]) for n in ("anchor", "positive")})
    found = [starts(data, 0, e, partners=[1, 1])["positive"] for e in range(200)]
    assert {whose for whose, _ in found} == {1}
    assert max(s[0] for _, s in found) > 2.1 * SECOND and min(s[0] for _, s in found) < 0.1 * SECOND
    alone = [starts(data, 1, e, partners=[1, 1]) for e in range(50)]  # its own partner
    assert all(abs(s["anchor"][1][0] - s["positive"][1][0]) >= 1.8 * SECOND for s in alone)


def test_a_view_can_have_the_crops_of_another():
    data = cropper(views=APART | {"same": Crop(2, 1.0, cut_as="positive")})
    assert starts(data, 4)["same"] == starts(data, 4)["positive"]
    assert starts(data, 4, partners=[1] * 8)["same"] == starts(data, 4, partners=[1] * 8)["positive"]
    for wrong in (
        Crop(1, 1.0, cut_as="positive"),
        Crop(2, 1.0, augment_as="x"),
        Crop(2, 2.0, cut_as="positive"),
    ):
        with pytest.raises(ValueError, match="view 'same'"):
            cropper(views=APART | {"same": wrong})


# -- files ------------------------------------------------------------------------------------


def test_crops_of_files_equal_that_part_of_the_file(corpus):
    manifest = corpus.manifest
    data = Cropper(FileSource(manifest), {"anchor": Crop(2, 0.1), "reference": Crop(1, 4.0)}, 5)
    found = cut(data, [0, 23])
    for row, index in enumerate((0, 23)):
        whole = read_pcm(manifest.path(manifest[index]))
        for crop, start in zip(found["anchor"][row], starts(data, index)["anchor"][1], strict=True):
            assert np.array_equal(crop, whole[start : start + 1600])
        wrapped = found["reference"][row, 0]  # longer than the file
        assert np.array_equal(wrapped, np.resize(whole, 4 * SECOND))


def test_an_utterance_may_be_part_of_its_file(corpus):
    manifest = corpus.manifest
    whole = read_pcm(manifest.path(manifest[0]))
    part = FileSource(Manifest([replace(manifest[0], seconds=0.2, start=0.1)], manifest.root))
    out = np.zeros(5000, np.int16)
    assert part.lengths.tolist() == [3200] and part.read_into(0, 0, out) == 3200
    assert np.array_equal(out[:3200], whole[1600:4800]) and not out[3200:].any()
    assert part.read_into(0, 3000, out) == 200 and part.read_into(0, 3200, out) == 0


def test_a_file_that_has_lost_its_audio_is_reported():
    class Gone(Ramps):
        def read_into(self, index: int, start: int, out: np.ndarray) -> int:
            return 0

    with pytest.raises(IdemvoxError, match=r"utterance 1 .*2\.00 s.*idemvox prepare"):
        cut(Cropper(Gone(2.0, 2.0), VIEWS, 0), [1])
