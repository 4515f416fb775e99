"""Banks: their pieces, and the contents of folders, rooms and built-in noises."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from idemvox.audio.banks import Bank, coloured_noises, load_bank, load_rooms, trim_room
from idemvox.audio.read import SAMPLE_RATE, to_pcm, write_wav
from idemvox.errors import IdemvoxError


def pieces(count: int, samples: int, seed: int, level: float = 0.3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(level * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32) for _ in range(count)]


def test_a_bank_gives_back_its_pieces():
    given = [0.5 * p for p in pieces(3, 50, 0)] + pieces(1, 20, 1, level=1e-3)
    bank = Bank(given)
    assert len(bank) == 4
    found = bank.take(np.array([2, 3, 0]), np.array([45, 0, 10]), 130)
    for row, (piece, offset) in zip(found, ((2, 45), (3, 0), (0, 10)), strict=True):
        expected = given[piece][(offset + np.arange(130)) % len(given[piece])]
        assert np.abs(row.numpy() - expected).max() <= np.abs(given[piece]).max() / 32767 * 0.51
    cut = bank.take(np.array([3]), np.array([15]), 10, wrap=False)[0]
    assert cut[:5].abs().min() > 0 and cut[5:].abs().max() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_bank_gives_the_same_on_a_gpu():
    bank = Bank(pieces(3, 50, 0) + pieces(1, 20, 1))
    piece, offset = np.array([2, 3, 0, 3]), np.array([45, 15, 10, 19])
    for wrap in (True, False):
        here = bank.cpu().take(piece, offset, 130, wrap)
        there = bank.cuda().take(piece, offset, 130, wrap).cpu()
        torch.testing.assert_close(here, there)


def test_16_bit_pieces_are_kept_as_16_bit():
    given = [to_pcm(p) for p in pieces(3, 50, 0, level=0.01)]
    bank = Bank(given)
    assert np.array_equal(bank.audio.numpy(), np.concatenate(given))
    assert np.array_equal(
        bank.take(np.array([1]), np.array([0]), 50)[0].numpy(), given[1] / np.float32(32768)
    )


def test_silent_pieces_are_left_out_and_a_silent_bank_is_refused():
    assert len(Bank([np.zeros(10, np.float32), np.ones(10, np.float32), np.zeros(0, np.float32)])) == 1
    for silent in ([np.zeros(10, np.float32)], []):
        with pytest.raises(IdemvoxError, match="contains only silence"):
            Bank(silent)


def test_a_folder_is_cut_into_pieces(tmp_path):
    ramp = np.arange(SAMPLE_RATE * 5 // 2) / SAMPLE_RATE / 3
    write_wav(tmp_path / "b" / "long.wav", ramp)
    write_wav(tmp_path / "a.wav", 0.1 * np.ones(3000))
    (tmp_path / "notes.txt").write_text("not audio")
    found = load_bank(tmp_path, 1.0)
    assert sorted(len(p) for p in found) == [3000, 8_000, 16_000, 16_000]
    long = [p for p in found if len(p) != 3000]  # in order
    assert np.array_equal(np.concatenate(long), to_pcm(ramp))


def test_limited_hours_are_of_random_files(tmp_path):
    for n in range(20):
        write_wav(tmp_path / f"{n:02}.wav", np.full(SAMPLE_RATE, (n + 1) / 100))
    few = [load_bank(tmp_path, 1.0, max_hours=4.5 / 3600, seed=s) for s in range(8)]
    assert {len(found) for found in few} == {5}
    assert len({int(p[0]) for found in few for p in found}) > 12  # not the first ones in alphabetical order
    assert np.array_equal(few[3], load_bank(tmp_path, 1.0, max_hours=4.5 / 3600, seed=3))


def test_unusable_folders_are_refused(tmp_path, caplog):
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


def test_a_room_starts_at_its_direct_path(tmp_path):
    """For any length and any delay of the direct path; the tail does not become a room of its own."""
    decay = np.exp(-np.arange(40_000) / 6000)
    late = np.r_[np.zeros(700), 0.9, 0.1 * decay]
    write_wav(tmp_path / "late_and_long.wav", late)
    write_wav(tmp_path / "short.wav", np.r_[-0.8, 0.1 * decay[:900]])
    long, short = load_rooms(tmp_path, 1.0)
    assert len(long) == SAMPLE_RATE and len(short) == 901
    assert np.array_equal(trim_room(long), long)
    assert long[0] == pytest.approx(0.9, abs=1e-4) and short[0] == pytest.approx(-0.8, abs=1e-4)


def test_built_in_noises_have_different_colours():
    noises = coloured_noises(6, seed=1, seconds=1.0)
    assert len(noises) == 6 and all(n.shape == (SAMPLE_RATE,) and n.dtype == np.float32 for n in noises)
    assert all(np.abs(n).max() == pytest.approx(0.9, abs=1e-6) for n in noises)
    assert all(np.array_equal(a, b) for a, b in zip(noises, coloured_noises(6, 1, 1.0), strict=True))
    assert not np.array_equal(noises[0], coloured_noises(6, 2, 1.0)[0])
    low = [np.abs(np.fft.rfft(n)[100:1000]).mean() / np.abs(np.fft.rfft(n)[4000:]).mean() for n in noises]
    assert max(low) / min(low) > 3  # of various colours


def test_a_room_ends_where_it_has_decayed():
    decay = np.exp(-np.arange(16_000) / 200).astype(np.float32)
    room = trim_room(decay)
    assert np.array_equal(room, decay[: len(room)])
    lost = np.square(decay[len(room) :]).sum() / np.square(decay).sum()
    assert 0.5e-6 < lost <= 1e-6
