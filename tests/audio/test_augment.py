"""Augmentation: levels, independence of the batch, and the position of the direct path."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from idemvox.audio import reverb
from idemvox.audio.augment import Augmenter
from idemvox.audio.banks import Bank
from idemvox.audio.policies import POLICIES, SNR, Draws
from idemvox.audio.read import SAMPLE_RATE
from idemvox.audio.rooms import room_bank
from idemvox.errors import IdemvoxError

T = 8000


def pieces(count: int, samples: int, seed: int, level: float = 0.3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(level * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32) for _ in range(count)]


@pytest.fixture(scope="module")
def rooms() -> Bank:
    return Bank(room_bank(4, seed=0, rt60=(0.1, 0.3)))


@pytest.fixture(scope="module")
def make(rooms):
    noises = {
        "noise": Bank(pieces(5, 12_000, 1)),
        "music": Bank(pieces(3, 20_000, 2, level=0.01)),  # the level of a bank does not matter
        "speech": Bank(pieces(9, 5_000, 3)),  # shorter than a sample
    }
    return lambda policy, **options: Augmenter(policy, noises, rooms, **options)


def speech(batch: int, samples: int = T, seed: int = 0) -> Tensor:
    """Noise in syllables: neither white nor stationary."""
    generator = torch.Generator().manual_seed(seed)
    wave = torch.randn(batch, samples, generator=generator).cumsum(1)
    wave = wave - torch.nn.functional.avg_pool1d(wave[:, None], 201, 1, 100)[:, 0]
    beat = torch.sin(torch.arange(samples) / SAMPLE_RATE * 2 * math.pi * 4).square() + 0.05
    wave = wave * beat
    return 0.4 * wave / wave.abs().amax(1, keepdim=True)


def one(augmenter: Augmenter, seed: int) -> Draws:
    """The draw of a single sample."""
    return augmenter.draw([seed], T)


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal.double().square().mean(1) / noise.double().square().mean(1))


# -- levels -----------------------------------------------------------------------------------


def test_the_signal_to_noise_ratio_is_exact(make):
    augmenter, seeds = make("noise"), range(60)
    wave = speech(60)
    draws = augmenter.draw(seeds, T)
    assert set(draws.kind) == {0, 1, 2} and augmenter.kinds == ("music", "noise", "speech")
    found = decibels(wave, augmenter(wave, seeds) - wave)
    assert (found - torch.from_numpy(draws.snr_db)).abs().max() < 0.01


def test_the_ratio_is_to_the_reverberated_signal(make):
    seeds = range(60)
    wave = speech(60)
    draws = make("always").draw(seeds, T)
    assert np.array_equal(draws.room, make("reverb").draw(seeds, T).room)
    echoing = make("reverb")(wave, seeds)
    snr = torch.from_numpy(draws.snr_db)
    noise = make("always")(wave, seeds) - echoing
    assert (decibels(echoing, noise) - snr).abs().max() < 0.01
    assert (decibels(wave, noise) - snr).abs().max() > 0.1  # the two ratios differ


def test_quiet_and_loud_samples_get_the_same_ratio(make):
    wave = speech(12) * torch.logspace(-4, 0, 12)[:, None]
    augmenter = make("noise")
    snr = torch.from_numpy(augmenter.draw(range(12), T).snr_db)
    assert (decibels(wave, augmenter(wave, range(12)) - wave) - snr).abs().max() < 0.01


def test_rooms_keep_the_energy(make):
    white = torch.randn(32, 16_000, generator=torch.Generator().manual_seed(0))
    assert decibels(make("reverb")(white, range(32)), white).abs().max() < 1.0
    wave = speech(32, 16_000)
    assert decibels(make("reverb")(wave, range(32)), wave).abs().max() < 6.0


def test_ratios_are_uniform_over_the_range_of_each_kind(make):
    assert SNR == {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
    augmenter = make("noise")
    draws = augmenter.draw(range(3000), T)
    for kind, (low, high) in SNR.items():
        found = draws.snr_db[draws.kind == augmenter.kinds.index(kind)]
        assert abs(len(found) - 1000) < 5 * math.sqrt(1000 * 2 / 3)  # all kinds are equally likely
        assert low <= found.min() < low + 0.3 and high - 0.3 < found.max() <= high
        assert abs(found.mean() - (low + high) / 2) < 5 * (high - low) / math.sqrt(12 * len(found))


# -- independence -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_a_sample_does_not_depend_on_its_batch(make, policy):
    augmenter, wave, seeds = make(policy), speech(16), [1000 + s for s in range(16)]
    whole = augmenter(wave, seeds)
    alone = torch.cat([augmenter(wave[i : i + 1], seeds[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=0)
    backwards = augmenter(wave.flip(0), seeds[::-1]).flip(0)
    torch.testing.assert_close(backwards, whole, atol=1e-5, rtol=0)


def test_only_the_seed_matters(make):
    wave = speech(1).expand(8, -1)
    augmenter = make("always")
    first = augmenter(wave, range(8))
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    torch.manual_seed(0)
    assert torch.equal(augmenter(wave, range(8)), first)
    different = (first[:, None] - first[None]).abs().amax(2) > 1e-3
    assert (different | torch.eye(8, dtype=torch.bool)).all()
    assert torch.equal(augmenter(wave, [5] * 8)[0], augmenter(wave, [5] * 8)[7])


def test_the_input_is_unchanged_and_has_no_gradient(make):
    wave = speech(4).requires_grad_()
    before = wave.detach().clone()
    for policy in ("noise", "reverb", "always", "all"):
        out = make(policy)(wave, range(4))
        assert torch.equal(wave.detach(), before) and out.shape == wave.shape and not out.requires_grad


# -- rooms ------------------------------------------------------------------------------------


def test_the_direct_path_is_not_moved(make, rooms):
    wave = torch.zeros(6, T)
    wave[:, 3000] = 0.5
    augmenter = make("reverb")
    out = augmenter(wave, range(6))
    for row, seed in zip(out, range(6), strict=True):
        room = one(augmenter, seed).room[0]
        start, length = int(rooms.starts[room]), int(rooms.lengths[room])
        response = rooms.audio[start : start + length].double()
        response /= response.norm()
        expected = torch.zeros(T, dtype=torch.float64)
        fits = min(length, T - 3000)
        expected[3000 : 3000 + fits] = 0.5 * response[:fits]
        torch.testing.assert_close(row.double(), expected, atol=1e-5, rtol=0)
        assert row[:3000].abs().max() < 1e-6 < row[3000].abs()


def test_cached_and_recomputed_rooms_are_equal(make, rooms, monkeypatch):
    wave, seeds = speech(6), range(6)
    kept = make("reverb")(wave, seeds)
    monkeypatch.setattr(reverb, "_KEPT", 0)
    torch.testing.assert_close(Augmenter("reverb", {}, rooms)(wave, seeds), kept, atol=1e-6, rtol=0)


def test_the_level_of_a_room_response_does_not_matter(make):
    responses = room_bank(4, seed=0, rt60=(0.1, 0.3))
    scaled = Bank([gain * r for gain, r in zip((0.01, 0.5, 3.0, 20.0), responses, strict=True)])
    wave, seeds = speech(8), range(8)
    found = Augmenter("reverb", {}, scaled)(wave, seeds)
    torch.testing.assert_close(found, make("reverb")(wave, seeds), atol=1e-5, rtol=0)


def test_nothing_wraps_around_from_the_end(make):
    wave = torch.zeros(4, T)
    wave[:, -1] = 1.0
    assert make("reverb")(wave, range(4))[:, :-1].abs().max() < 1e-6


# -- policies ---------------------------------------------------------------------------------


def test_policies_apply_their_parts(make):
    wave = speech(2)
    assert make("none")(wave, [0, 1]) is wave
    for policy, wet, noise in (("noise", False, True), ("reverb", True, False), ("always", True, True)):
        draws = make(policy).draw(range(50), T)
        assert set(draws.room >= 0) == {wet} and set(draws.kind >= 0) == {noise} == set(draws.count > 0)


def shares(augmenter: Augmenter, count: int = 4000) -> dict[str, float]:
    draws = augmenter.draw(range(count), T)
    room, noise = draws.room >= 0, draws.kind >= 0
    found = {"clean": ~room & ~noise, "dry": ~room & noise, "room": room & ~noise, "both": room & noise}
    found |= {kind: draws.kind == n for n, kind in enumerate(augmenter.kinds)}
    return {name: rows.mean() for name, rows in found.items()}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", {"clean": 1 / 4, "dry": 1 / 4, "room": 1 / 4, "both": 1 / 4}),
        ("always", {"both": 1, "speech": 1 / 3}),
        ("aat-1", {"dry": 1}),
        ("aat-2", {"dry": 3 / 4, "room": 1 / 4}),
        ("aat-3", {"both": 1}),
        ("voxceleb_trainer", {"clean": 1 / 5, "room": 1 / 5, "music": 1 / 5, "speech": 1 / 5, "both": 0}),
    ],
)
def test_the_papers_policies(make, policy, expected):
    found = shares(make(policy))
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 4000))


def test_a_clean_sample_is_unchanged(make):
    draws = make("all").draw(range(100), T)
    clean = np.flatnonzero((draws.room < 0) & (draws.kind < 0))
    wave = speech(len(clean))
    assert len(clean) > 10 and torch.equal(make("all")(wave, clean), wave)


def test_aat_adds_one_voice_and_moves_the_level_of_rooms(make):
    augmenter = make("aat-3")
    draws = augmenter.draw(range(2000), T)
    assert set(draws.count) == {1}
    decibel = 10 * np.log10(draws.room_gain)
    assert -7 <= decibel.min() < -6.9 and 2.9 < decibel.max() <= 3
    wave, seeds = speech(20), range(20)
    assert np.array_equal(draws.room[:20], make("reverb").draw(seeds, T).room)
    gain = torch.from_numpy(draws.room_gain[:20]).float()[:, None]
    plain = Augmenter("aat-2", dict(augmenter.noises), augmenter.reverb.rooms)
    rows = torch.from_numpy(plain.draw(seeds, T).room >= 0)
    expected = make("reverb")(wave, seeds) * gain
    assert rows.any()
    torch.testing.assert_close(plain(wave, seeds)[rows], expected[rows])


def test_every_room_and_piece_is_used(make):
    augmenter = make("always")
    draws = augmenter.draw(range(2000), T)
    assert np.bincount(draws.room).min() > 400 and len(np.bincount(draws.room)) == 4
    noise, voices = (draws.kind == augmenter.kinds.index(kind) for kind in ("noise", "speech"))
    assert set(draws.piece[noise, 0]) == set(range(5))
    offsets = draws.offset[noise, 0]
    assert offsets.min() < 100 and 3900 < offsets.max() <= 12_000 - T  # does not wrap unless it must
    assert set(draws.offset[voices].ravel()) == {0}


@pytest.mark.parametrize(
    ("babble", "expected"), [((3, 7), {3, 4, 5, 6, 7}), ((1, 1), {1}), (None, {3, 4, 5, 6, 7})]
)
def test_babble_has_several_voices(make, babble, expected):
    augmenter = make("noise", babble=babble)
    draws = augmenter.draw(range(1500), T)
    voices = draws.kind == augmenter.kinds.index("speech")
    found = np.unique(draws.count[voices], return_counts=True)
    assert set(found[0]) == expected and np.ptp(found[1]) < 80
    assert set(draws.count[~voices]) == {1}


def test_babble_is_the_sum_of_its_clips(make):
    augmenter = make("noise")
    seed = next(s for s in range(100) if one(augmenter, s).count[0] > 1)
    wave = speech(1)
    noise = (augmenter(wave, [seed]) - wave)[0]
    draw = one(augmenter, seed)
    clips = augmenter.noises["speech"].take(draw.piece[0], draw.offset[0], T)[: draw.count[0]]
    total = clips.sum(0)
    torch.testing.assert_close(noise / noise.norm(), total / total.norm(), atol=1e-5, rtol=0)


def test_silence_stays_finite(make):
    out = make("always")(torch.zeros(8, T), range(8))
    assert torch.isfinite(out).all() and out.abs().max() == 0
    mute = Bank([np.r_[np.zeros(T), 0.5].astype(np.float32)])  # audible, but not where it is cut
    augmenter = Augmenter("noise", {"noise": mute}, None)
    seed = next(s for s in range(100) if one(augmenter, s).offset[0, 0] == 0)
    assert torch.equal(augmenter(wave := speech(1), [seed]), wave)


def test_built_in_augmentation_needs_no_files():
    wave = speech(8)
    one, other = (Augmenter.built_in("always", seed=1, rooms=2)(wave, range(8)) for _ in range(2))
    assert torch.isfinite(one).all() and torch.equal(one, other)
    assert ((one - wave).abs().amax(1) > 1e-3).all()


def test_missing_banks_are_reported(rooms):
    noises = {"noise": Bank(pieces(1, 100, 0))}
    with pytest.raises(IdemvoxError, match=r"augment.policy 'allways'; did you mean 'always'"):
        Augmenter("allways", noises, rooms)
    for policy, given, room in (
        ("noise", {}, rooms),
        ("reverb", noises, None),
        ("always", {}, rooms),
        ("all", noises, None),
    ):
        with pytest.raises(IdemvoxError, match="needs banks"):
            Augmenter(policy, given, room)
    Augmenter("noise", noises, None)
    Augmenter("reverb", {}, rooms)


def test_a_share_of_samples_passes_through_a_telephone(make):
    augmenter = make("noise", telephone=0.3)
    seeds = range(400)
    chosen = augmenter.draw(seeds, T).telephone
    assert abs(chosen.mean() - 0.3) < 5 * math.sqrt(0.21 / 400)
    wave = torch.randn(400, T, generator=torch.Generator().manual_seed(0))
    treble = torch.fft.rfft(augmenter(wave, seeds))[:, 5 * T // 16 :].abs().square().mean(1)  # above 5 kHz
    assert treble[chosen].max() < 0.01 * treble[~chosen].min()
    only = Augmenter("none", {}, None, telephone=1.0)
    assert not only.idle and (only(wave[:2], [0, 1]) - wave[:2]).abs().max() > 0.1


def test_moves_as_a_module_and_is_not_saved(make):
    assert make("always").state_dict() == {}
    assert {name.split(".")[-1] for name, _ in make("always").named_buffers()} >= {"audio", "gains"}


# -- as on a GPU ------------------------------------------------------------------------------


def test_a_few_large_launches_equal_row_by_row(make, monkeypatch):
    """A GPU takes the whole batch at once, with one length of FFT for all rooms."""
    seeds, pcm = range(40), (speech(40) * 32767).to(torch.int16)
    by_row = make("always")(pcm, seeds)
    monkeypatch.setattr(reverb.Reverb, "_fitting", False)
    monkeypatch.setattr(Augmenter, "_on_cpu", Augmenter._on_device)
    at_once = make("always")(pcm, seeds)
    assert {0, 1, 2} == set(make("always").draw(seeds, T).kind)
    assert (at_once - by_row).abs().max() < 1e-4 * by_row.abs().max()
