"""Augmentation: levels, independence of the batch, and where the direct path stays."""

from __future__ import annotations

import logging
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from idemvox.audio import augment
from idemvox.audio.augment import SNR, Augmenter, Bank, coloured_noises, load_bank, load_rooms
from idemvox.audio.read import SAMPLE_RATE, write_wav
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
        "music": Bank(pieces(3, 20_000, 2, level=0.01)),  # the level of a bank is of no account
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


def decibels(signal: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(signal.double().square().mean(1) / noise.double().square().mean(1))


# -- levels -----------------------------------------------------------------------------------


def test_the_signal_to_noise_ratio_is_exact(make):
    augmenter, seeds = make("noise"), list(range(60))
    wave = speech(60)
    draws = [augmenter.draw(seed, T) for seed in seeds]
    assert {d.kind for d in draws} == {"noise", "music", "speech"}
    found = decibels(wave, augmenter(wave, seeds) - wave)
    assert (found - torch.tensor([d.snr_db for d in draws])).abs().max() < 0.01


def test_the_ratio_is_to_the_reverberated_signal(make):
    seeds = list(range(60))
    wave = speech(60)
    draws = [make("always").draw(seed, T) for seed in seeds]
    assert [d.room for d in draws] == [make("reverb").draw(seed, T).room for seed in seeds]
    echoing = make("reverb")(wave, seeds)
    snr = torch.tensor([d.snr_db for d in draws])
    noise = make("always")(wave, seeds) - echoing
    assert (decibels(echoing, noise) - snr).abs().max() < 0.01
    assert (decibels(wave, noise) - snr).abs().max() > 0.1  # the two could be told apart


def test_quiet_and_loud_samples_alike(make):
    wave = speech(12) * torch.logspace(-4, 0, 12)[:, None]
    augmenter = make("noise")
    snr = torch.tensor([augmenter.draw(s, T).snr_db for s in range(12)])
    assert (decibels(wave, augmenter(wave, range(12)) - wave) - snr).abs().max() < 0.01


def test_rooms_keep_the_energy(make):
    white = torch.randn(32, 16_000, generator=torch.Generator().manual_seed(0))
    assert decibels(make("reverb")(white, range(32)), white).abs().max() < 1.0
    wave = speech(32, 16_000)
    assert decibels(make("reverb")(wave, range(32)), wave).abs().max() < 6.0


def test_ratios_are_uniform_over_the_range_of_each_kind(make):
    assert SNR == {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
    by_kind: dict[str, list[float]] = {kind: [] for kind in SNR}
    for seed in range(3000):
        draw = make("noise").draw(seed, T)
        by_kind[draw.kind].append(draw.snr_db)
    for kind, (low, high) in SNR.items():
        found = np.array(by_kind[kind])
        assert abs(len(found) - 1000) < 5 * math.sqrt(1000 * 2 / 3)  # kinds are as likely as each other
        assert low <= found.min() < low + 0.3 and high - 0.3 < found.max() <= high
        assert abs(found.mean() - (low + high) / 2) < 5 * (high - low) / math.sqrt(12 * len(found))


# -- independence -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["noise", "reverb", "always", "all"])
def test_a_sample_does_not_depend_on_its_batch(make, policy):
    augmenter, wave, seeds = make(policy), speech(16), [1000 + s for s in range(16)]
    whole = augmenter(wave, seeds)
    alone = torch.cat([augmenter(wave[i : i + 1], seeds[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=0)
    backwards = augmenter(wave.flip(0), seeds[::-1]).flip(0)
    torch.testing.assert_close(backwards, whole, atol=1e-5, rtol=0)


def test_the_seed_alone_decides(make):
    wave = speech(1).expand(8, -1)
    augmenter = make("always")
    first = augmenter(wave, range(8))
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    torch.manual_seed(0)
    assert torch.equal(augmenter(wave, range(8)), first)
    different = (first[:, None] - first[None]).abs().amax(2) > 1e-3
    assert (different | torch.eye(8, dtype=torch.bool)).all()
    assert torch.equal(augmenter(wave, [5] * 8)[0], augmenter(wave, [5] * 8)[7])


def test_leaves_its_input_alone_and_has_no_gradient(make):
    wave = speech(4).requires_grad_()
    before = wave.detach().clone()
    for policy in ("noise", "reverb", "always", "all"):
        out = make(policy)(wave, range(4))
        assert torch.equal(wave.detach(), before) and out.shape == wave.shape and not out.requires_grad


# -- rooms ------------------------------------------------------------------------------------


def test_the_direct_path_stays_where_it_was(make, rooms):
    wave = torch.zeros(6, T)
    wave[:, 3000] = 0.5
    augmenter = make("reverb")
    out = augmenter(wave, range(6))
    for row, seed in zip(out, range(6), strict=True):
        room = augmenter.draw(seed, T).room
        start, length = int(rooms.starts[room]), int(rooms.lengths[room])
        response = rooms.audio[start : start + length].double()
        response /= response.norm()
        expected = torch.zeros(T, dtype=torch.float64)
        fits = min(length, T - 3000)
        expected[3000 : 3000 + fits] = 0.5 * response[:fits]
        torch.testing.assert_close(row.double(), expected, atol=1e-5, rtol=0)
        assert row[:3000].abs().max() < 1e-6 < row[3000].abs()


def test_rooms_sound_the_same_whether_kept_or_worked_out_each_time(make, rooms, monkeypatch):
    wave, seeds = speech(6), range(6)
    kept = make("reverb")(wave, seeds)
    monkeypatch.setattr(augment, "_KEPT", 0)
    torch.testing.assert_close(Augmenter("reverb", {}, rooms)(wave, seeds), kept, atol=1e-6, rtol=0)


def test_the_level_of_a_room_response_is_of_no_account(make):
    responses = room_bank(4, seed=0, rt60=(0.1, 0.3))
    scaled = Bank([gain * r for gain, r in zip((0.01, 0.5, 3.0, 20.0), responses, strict=True)])
    wave, seeds = speech(8), range(8)
    found = Augmenter("reverb", {}, scaled)(wave, seeds)
    torch.testing.assert_close(found, make("reverb")(wave, seeds), atol=1e-5, rtol=0)


def test_nothing_wraps_round_from_the_end(make):
    wave = torch.zeros(4, T)
    wave[:, -1] = 1.0
    assert make("reverb")(wave, range(4))[:, :-1].abs().max() < 1e-6


# -- policies ---------------------------------------------------------------------------------


def test_policies(make):
    wave = speech(2)
    assert make("none")(wave, [0, 1]) is wave
    for policy, reverb, noise in (("noise", False, True), ("reverb", True, False), ("always", True, True)):
        draws = [make(policy).draw(seed, T) for seed in range(50)]
        assert {d.room >= 0 for d in draws} == {reverb} and {d.kind is not None for d in draws} == {noise}


def test_all_is_a_quarter_each(make):
    draws = [make("all").draw(seed, T) for seed in range(4000)]
    found = Counter((d.room >= 0, d.kind is not None) for d in draws)
    assert len(found) == 4 and all(abs(n - 1000) < 5 * math.sqrt(750) for n in found.values())
    wave = speech(1)
    clean = next(s for s in range(100) if draws[s].room < 0 and draws[s].kind is None)
    assert torch.equal(make("all")(wave, [clean]), wave)


def test_every_room_and_piece_is_used(make):
    draws = [make("always").draw(seed, T) for seed in range(2000)]
    assert set(Counter(d.room for d in draws)) == set(range(4))
    assert min(Counter(d.room for d in draws).values()) > 400
    assert {p for d in draws if d.kind == "noise" for p, _ in d.clips} == set(range(5))
    offsets = [o for d in draws if d.kind == "noise" for _, o in d.clips]
    assert min(offsets) < 100 and 3900 < max(offsets) <= 12_000 - T  # a clip never wraps if it need not
    assert {o for d in draws if d.kind == "speech" for _, o in d.clips} == {0}


@pytest.mark.parametrize(("babble", "expected"), [((3, 7), {3, 4, 5, 6, 7}), ((1, 1), {1})])
def test_babble_is_of_several_voices(make, babble, expected):
    draws = [make("noise", babble=babble).draw(seed, T) for seed in range(1500)]
    found = Counter(len(d.clips) for d in draws if d.kind == "speech")
    assert set(found) == expected
    assert max(found.values()) - min(found.values()) < 80
    assert {len(d.clips) for d in draws if d.kind != "speech"} == {1}


def test_babble_is_the_sum_of_its_clips(make):
    augmenter = make("noise")
    seed = next(s for s in range(100) if augmenter.draw(s, T).kind == "speech")
    wave = speech(1)
    noise = (augmenter(wave, [seed]) - wave)[0]
    bank = augmenter.noises["speech"]
    total = sum(
        bank.take(torch.tensor([p]), torch.tensor([o]), T)[0] for p, o in augmenter.draw(seed, T).clips
    )
    torch.testing.assert_close(noise / noise.norm(), total / total.norm(), atol=1e-5, rtol=0)


def test_silence_stays_finite(make):
    out = make("always")(torch.zeros(8, T), range(8))
    assert torch.isfinite(out).all() and out.abs().max() == 0
    mute = Bank([np.r_[np.zeros(T), 0.5].astype(np.float32)])  # audible, but not where it is cut
    augmenter = Augmenter("noise", {"noise": mute}, None)
    seed = next(s for s in range(100) if augmenter.draw(s, T).clips[0][1] == 0)
    assert torch.equal(augmenter(wave := speech(1), [seed]), wave)


def test_built_in_needs_no_files():
    wave = speech(8)
    one, other = (Augmenter.built_in("always", seed=1, rooms=2)(wave, range(8)) for _ in range(2))
    assert torch.isfinite(one).all() and torch.equal(one, other)
    assert ((one - wave).abs().amax(1) > 1e-3).all()


def test_what_is_missing_is_said(rooms):
    noises = {"noise": Bank(pieces(1, 100, 0))}
    with pytest.raises(IdemvoxError, match="not 'allways'"):
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


# -- banks ------------------------------------------------------------------------------------


def test_a_bank_gives_back_what_it_was_given():
    given = [0.5 * p for p in pieces(3, 50, 0)] + pieces(1, 20, 1, level=1e-3)
    bank = Bank(given)
    assert len(bank) == 4
    found = bank.take(torch.tensor([2, 3, 0]), torch.tensor([45, 0, 10]), 30)
    for row, (piece, offset) in zip(found, ((2, 45), (3, 0), (0, 10)), strict=True):
        expected = given[piece][(offset + np.arange(30)) % len(given[piece])]
        assert np.abs(row.numpy() - expected).max() <= np.abs(given[piece]).max() / 32767 * 0.51
    cut = bank.take(torch.tensor([3]), torch.tensor([15]), 10, wrap=False)[0]
    assert cut[:5].abs().min() > 0 and cut[5:].abs().max() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_bank_gives_the_same_on_a_gpu():
    bank = Bank(pieces(3, 50, 0) + pieces(1, 20, 1))
    piece, offset = torch.tensor([2, 3, 0, 3]), torch.tensor([45, 15, 10, 30])
    for wrap in (True, False):
        here = bank.cpu().take(piece, offset, 130, wrap)
        there = bank.cuda().take(piece.cuda(), offset.cuda(), 130, wrap).cpu()
        torch.testing.assert_close(here, there)


def test_silent_pieces_are_left_out_and_a_silent_bank_is_refused():
    assert len(Bank([np.zeros(10, np.float32), np.ones(10, np.float32), np.zeros(0, np.float32)])) == 1
    for silent in ([np.zeros(10, np.float32)], []):
        with pytest.raises(IdemvoxError, match="no audible audio"):
            Bank(silent)


def test_a_folder_in_pieces(tmp_path):
    ramp = np.arange(SAMPLE_RATE * 5 // 2) / SAMPLE_RATE / 3
    write_wav(tmp_path / "b" / "long.wav", ramp)
    write_wav(tmp_path / "a.wav", 0.1 * np.ones(3000))
    (tmp_path / "notes.txt").write_text("not audio")
    found = load_bank(tmp_path, 1.0)
    assert [len(p) for p in found] == [3000, 16_000, 16_000, 8_000]
    assert np.abs(np.concatenate(found[1:]) - ramp).max() < 1e-4
    write_wav(tmp_path / "c.wav", 0.1 * np.ones(3000))
    assert len(load_bank(tmp_path, 1.0)) == 5
    assert len(load_bank(tmp_path, 1.0, max_hours=2 / 3600)) == 4  # enough after the second file


def test_folders_that_cannot_serve(tmp_path, caplog):
    with pytest.raises(IdemvoxError, match="does not exist"):
        load_bank(tmp_path / "nowhere")
    with pytest.raises(IdemvoxError, match="no audio"):
        load_bank(tmp_path)
    with pytest.raises(IdemvoxError, match="does not exist"):
        load_rooms(tmp_path / "nowhere")
    with pytest.raises(IdemvoxError, match="no audio"):
        load_rooms(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    write_wav(tmp_path / "fine.wav", 0.1 * np.ones(SAMPLE_RATE))
    with caplog.at_level(logging.WARNING):
        assert len(load_bank(tmp_path)) == len(load_rooms(tmp_path)) == 1
    assert "broken.wav" in caplog.text


def test_a_room_is_one_response_from_its_direct_path(tmp_path):
    """However long or short, and however late its direct path; its tail is no room of its own."""
    decay = np.exp(-np.arange(40_000) / 6000)
    late = np.r_[np.zeros(700), 0.9, 0.1 * decay]
    write_wav(tmp_path / "late_and_long.wav", late)
    write_wav(tmp_path / "short.wav", np.r_[-0.8, 0.1 * decay[:900]])
    long, short = load_rooms(tmp_path, 1.0)
    assert len(long) == SAMPLE_RATE and len(short) == 901
    assert long[0] == pytest.approx(0.9, abs=1e-4) and short[0] == pytest.approx(-0.8, abs=1e-4)


def test_coloured_noises():
    noises = coloured_noises(6, seed=1, seconds=1.0)
    assert len(noises) == 6 and all(n.shape == (SAMPLE_RATE,) and n.dtype == np.float32 for n in noises)
    assert all(np.abs(n).max() == pytest.approx(0.9, abs=1e-6) for n in noises)
    assert all(np.array_equal(a, b) for a, b in zip(noises, coloured_noises(6, 1, 1.0), strict=True))
    assert not np.array_equal(noises[0], coloured_noises(6, 2, 1.0)[0])
    low = [np.abs(np.fft.rfft(n)[100:1000]).mean() / np.abs(np.fft.rfft(n)[4000:]).mean() for n in noises]
    assert max(low) / min(low) > 3  # of various colours


def test_moves_as_a_module_and_is_not_saved(make, tmp_path: Path):
    assert make("always").state_dict() == {}
    assert {name.split(".")[-1] for name, _ in make("always").named_buffers()} >= {
        "audio",
        "starts",
        "lengths",
        "peaks",
    }
