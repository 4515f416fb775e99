"""Randomness as a function of whole numbers: (seed, epoch, utterance, view, ...) in, the same draw out.

Nothing here has a state, so a draw depends neither on the order of reading, nor on the number of readers,
nor on the batch; and a run that was broken off needs no generator restored.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["draw_seed", "mix", "name_number", "uniform"]

Seeds = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_BITS = 2**64 - 1


def _finish(x: Seeds) -> Seeds:
    """The output function of SplitMix64 (Steele, Lea & Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix(*numbers: npt.ArrayLike) -> Seeds:
    """Mix whole numbers, or arrays of them that broadcast together, into 64-bit seeds.

    >>> mix(0, 3, [7, 8]).shape
    (2,)
    """
    seed: Any = np.zeros(1, np.uint64)  # never a scalar: their overflow warns
    for number in numbers:
        seed = _finish(_finish(seed + _GOLDEN) ^ np.asarray(number).astype(np.uint64))
    return np.asarray(seed, np.uint64)


def draw_seed(*numbers: int) -> int:
    """Mix whole numbers into one 63-bit seed, as generators want it: all but the last bit of :func:`mix`'s.

    Reckoned in Python's own numbers, which for a single seed takes a twentieth of the time.
    """
    seed = 0
    for number in numbers:
        seed = _finish_one(_finish_one(seed + int(_GOLDEN)) ^ number)
    return seed >> 1


def _finish_one(x: int) -> int:
    """:func:`_finish` of a single number of any size, by its last 64 bits."""
    x &= _BITS
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _BITS
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _BITS
    return x ^ (x >> 31)


def uniform(seeds: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """Return ``count`` numbers from [0, 1) for each seed: (..., count); SplitMix64 started there."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = _finish(np.asarray(seeds, np.uint64)[..., None] + steps)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def name_number(name: str) -> int:
    """Return a number for a name, to be mixed in: a view keeps its draws when another is added."""
    return zlib.crc32(name.encode())
