"""Random draws without a state: every input number matters, and the draws are uniform."""

from __future__ import annotations

import numpy as np

from idemvox.draws import draw_seed, mix, name_number, stable_seed, uniform


def test_seeds_mix_all_their_numbers():
    assert draw_seed(1, 2, 3) == draw_seed(1, 2, 3)
    several = {draw_seed(s, e, i, v) for s in range(5) for e in range(5) for i in range(20) for v in range(3)}
    assert len(several) == 5 * 5 * 20 * 3
    assert all(0 <= seed < 2**63 for seed in several)
    assert len({draw_seed(1, 2), draw_seed(2, 1), draw_seed(1, 2, 0), draw_seed(0, 1, 2)}) == 4


def test_a_seed_equals_that_of_arrays_except_for_one_bit():
    for numbers in ((0,), (7, 3, 77, 0x5353), (2**63 + 1, 2**64 - 1, 0), (-1, 5)):
        assert draw_seed(*numbers) == int(mix(*numbers)[0]) >> 1


def test_arrays_are_mixed_like_single_numbers():
    ids = np.array([3, 5, 2**40])
    seeds = mix(7, ids[:, None], np.arange(2))
    assert seeds.shape == (3, 2) and seeds.dtype == np.uint64
    for row, i in enumerate(ids.tolist()):
        assert [int(s) for s in seeds[row]] == [int(mix(7, i, n)[0]) for n in range(2)]
    assert len(np.unique(mix(0, np.arange(1_000_000)))) == 1_000_000


def test_numbers_are_uniform():
    seeds = mix(np.arange(20_000), 3)
    u = uniform(seeds, 5)
    assert u.shape == (20_000, 5) and u.min() >= 0 and u.max() < 1
    counts = np.stack([np.bincount((column * 10).astype(int), minlength=10) for column in u.T])
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000)
    together = np.corrcoef(np.c_[u[:-1], u[1:]].T) - np.eye(10)  # neighbours in either direction
    assert abs(together).max() < 5 / np.sqrt(20_000)
    assert np.array_equal(uniform(seeds[:3], 2), u[:3, :2])


def test_different_names_have_different_numbers():
    assert len({name_number(n) for n in ("anchor", "positive", "positive2", "reference", "local")}) == 5


def test_stable_seed_is_pinned() -> None:
    assert stable_seed("channel", 1, "ann", 0) == 4761365583455141075
    assert stable_seed("a", 1) != stable_seed("a", "1")
