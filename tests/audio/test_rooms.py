"""Rooms, compared with the method's formulas: loops over images, geometry, decay."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from idemvox.audio.rooms import eyring_reflection, image_source, measure_rt60, room_bank, simulate_room
from idemvox.errors import IdemvoxError

SIZE = np.array([5.0, 4.0, 3.0])
SOURCE = np.array([1.2, 2.3, 1.1])
MICROPHONE = np.array([3.1, 1.4, 1.7])


def slow_images(reflection: float, seconds: float) -> list[tuple[float, float]]:
    """(seconds after the direct path, pressure) of each image: a loop from Allen & Berkley, eq. 8."""
    found = []
    direct = float(np.linalg.norm(SOURCE - MICROPHONE))
    span = range(-4, 5)
    for q, j, k in itertools.product((0, 1), repeat=3):
        for n, m, o in itertools.product(span, repeat=3):
            mirror = np.array([q, j, k])
            cell = np.array([n, m, o])
            place = (1 - 2 * mirror) * SOURCE + 2 * cell * SIZE
            bounces = np.abs(cell - mirror).sum() + np.abs(cell).sum()
            distance = float(np.linalg.norm(place - MICROPHONE))
            if distance - direct <= 343.0 * seconds:
                found.append(((distance - direct) / 343.0, reflection**bounces / distance))
    return found


def test_images_equal_the_papers_formula() -> None:
    """Compared after a low pass in the form of a DFT up to 2 kHz, where rounding to 64 kHz is small."""
    seconds = 0.03
    response = image_source(SIZE, SOURCE, MICROPHONE, 0.8, seconds)
    assert len(response) == pytest.approx(seconds * 16_000, abs=2)
    hertz = np.arange(0, 2000, 50.0)
    wanted = sum(a * np.exp(-2j * np.pi * hertz * t) for t, a in slow_images(0.8, seconds - 0.0005))
    times = np.arange(len(response)) / 16_000
    times_in = times < seconds - 0.0005
    have = np.exp(-2j * np.pi * hertz[:, None] * times[times_in]) @ response[times_in]
    assert np.linalg.norm(have - wanted) < 0.08 * np.linalg.norm(wanted)


def test_direct_path_is_sample_0() -> None:
    anechoic = image_source(SIZE, SOURCE, MICROPHONE, 0.0, 0.01)
    distance = np.linalg.norm(SOURCE - MICROPHONE)
    assert anechoic[0] == pytest.approx(1 / distance, rel=0.02)
    assert np.max(np.abs(anechoic[1:])) < 0.01 * anechoic[0]


def test_measured_rt60_of_an_ideal_decay() -> None:
    noise = np.random.default_rng(0).standard_normal(16_000)
    decay = noise * 10 ** (-3 * np.arange(16_000) / 16_000 / 0.4)
    assert measure_rt60(decay) == pytest.approx(0.4, rel=0.03)
    assert measure_rt60(np.ones(1)) == 0


def test_rt60_follows_eyrings_formula() -> None:
    """V = 60, S = 94; 0.161 V / (-S ln(1 - a)), whose 0.161 is 24 ln(10) / c."""
    absorption = 1 - eyring_reflection(SIZE, 0.4) ** 2
    assert 0.1611 * 60 / (-94 * np.log(1 - absorption)) == pytest.approx(0.4, rel=1e-3)


@pytest.mark.parametrize("wanted", [0.1, 0.3, 0.6])
def test_rooms_have_the_requested_decay(wanted: float) -> None:
    rooms = [simulate_room(np.random.default_rng(seed), (wanted, wanted)) for seed in range(8)]
    measured = [measure_rt60(room) for room in rooms]
    assert np.median(measured) == pytest.approx(wanted, rel=0.12)
    assert max(measured) < 1.6 * wanted
    assert min(measured) > 0.6 * wanted


def test_rooms_have_unit_energy_and_start_with_the_direct_path() -> None:
    for room in room_bank(10, seed=3, rt60=(0.05, 0.3)):
        assert room.dtype == np.float32
        assert np.linalg.norm(room) == pytest.approx(1, rel=1e-5)
        assert room[0] > 0.2
        assert len(room) <= 0.3 * 16_000 + 2


def test_bank_is_a_function_of_seed_and_index() -> None:
    first, again, other = (
        room_bank(3, 1, (0.05, 0.1)),
        room_bank(2, 1, (0.05, 0.1)),
        room_bank(2, 2, (0.05, 0.1)),
    )
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


def test_a_room_is_computed_quickly() -> None:
    begin = time.process_time()
    room_bank(5, seed=0, rt60=(0.7, 0.7))
    assert (time.process_time() - begin) / 5 < 0.25  # about 0.02 s on one core; loose for a busy machine


@pytest.mark.parametrize("rt60", [(0.0, 0.1), (0.5, 0.2)])
def test_an_impossible_rt60_is_refused(rt60: tuple[float, float]) -> None:
    with pytest.raises(IdemvoxError, match="rt60"):
        simulate_room(np.random.default_rng(0), rt60)
