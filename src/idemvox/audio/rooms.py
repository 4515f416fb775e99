"""Simulated rooms: impulse responses of shoebox rooms by the image-source method.

Allen & Berkley, *Image method for efficiently simulating small-room acoustics*, JASA 65 (1979).
"""

from __future__ import annotations

import math

import numpy as np
import scipy  # which imports scipy.signal on first use; that takes a while
from numpy.typing import NDArray

from idemvox.audio.read import SAMPLE_RATE
from idemvox.errors import RecipeError

__all__ = ["eyring_reflection", "image_source", "measure_rt60", "room_bank", "simulate_room"]

SOUND = 343.0  # m/s, air at 20 degrees Celsius
OVERSAMPLE = 4  # images are placed on a 64-kHz grid, which is then resampled to 16 kHz with a windowed sinc
SMALLEST = (3.0, 3.0, 2.4)  # m
LARGEST = (10.0, 8.0, 4.0)  # m
APART = 0.5  # m, at least, between source and microphone, and from both to the walls
HIGH_PASS = 50.0  # Hz; all images have the same sign, so their sum would grow towards 0 Hz (section II)


def eyring_reflection(size: NDArray[np.float64], rt60: float) -> float:
    """Return the pressure reflection coefficient of six equal walls for a decay of 60 dB in ``rt60`` seconds.

    Eyring (1930): rt60 = 24 ln(10) V / (-c S ln(1 - absorption)), reflection = sqrt(1 - absorption).
    """
    x, y, z = (float(side) for side in size)
    surface = 2 * (x * y + y * z + x * z)
    return math.exp(-12 * math.log(10) * x * y * z / (SOUND * surface * rt60))


def _axis(
    length: float, source: float, microphone: float, reach: float, reflection: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the signed distances and gains of the images along one axis, within ``reach`` metres (eq. 8)."""
    n = np.arange(-math.ceil(reach / (2 * length)) - 1, math.ceil(reach / (2 * length)) + 2)
    distance = np.concatenate([2 * n * length + source, 2 * n * length - source]) - microphone
    bounces = np.concatenate([np.abs(2 * n), np.abs(2 * n - 1)])
    near = np.abs(distance) <= reach
    return distance[near], reflection ** bounces[near].astype(np.float64)


def image_source(
    size: NDArray[np.float64],
    source: NDArray[np.float64],
    microphone: NDArray[np.float64],
    reflection: float,
    seconds: float,
) -> NDArray[np.float64]:
    """Return the pressure at the microphone for an impulse at the source, at 16 kHz from the direct path on.

    Args:
        size: the room's sides in metres, (3,).
        source: the source's position in metres, (3,).
        microphone: the microphone's position in metres, (3,).
        reflection: pressure reflection coefficient of all walls, 0 to 1.
        seconds: images that arrive later than this after the direct path are left out.
    """
    direct = float(np.linalg.norm(source - microphone))
    reach = direct + SOUND * seconds
    (dx, gx), (dy, gy), (dz, gz) = (
        _axis(float(size[i]), float(source[i]), float(microphone[i]), reach, reflection) for i in range(3)
    )
    plane = np.add.outer(dx**2, dy**2).ravel()  # squared distance inside a layer of images
    gains = np.multiply.outer(gx, gy).ravel()
    order = np.argsort(plane)
    plane, gains = plane[order].astype(np.float32), gains[order].astype(np.float32)
    fine = np.zeros(math.ceil(seconds * SAMPLE_RATE * OVERSAMPLE) + 2)
    for height, gain in zip(dz, gz, strict=True):  # layer by layer: the images in reach come first
        count = int(np.searchsorted(plane, reach**2 - height**2))
        if not count:
            continue
        distance = np.sqrt(plane[:count] + np.float32(height**2))
        late = (distance - np.float32(direct)) * np.float32(SAMPLE_RATE * OVERSAMPLE / SOUND)
        hits = np.bincount(np.rint(late).astype(np.intp), weights=gains[:count] / distance)[: len(fine)]
        fine[: len(hits)] += gain * hits
    response: NDArray[np.float64] = scipy.signal.resample_poly(fine, 1, OVERSAMPLE) * OVERSAMPLE
    return response


def measure_rt60(response: NDArray[np.floating]) -> float:
    """Return the reverberation time in seconds of a 16-kHz impulse response that starts at its direct path.

    Fits a line from -5 to -25 dB to Schroeder's backward integral (1965) of everything after the direct
    sound (the first 3 ms). A response without such a decay gives 0 s.
    """
    late = response[round(0.003 * SAMPLE_RATE) :].astype(np.float64)
    left = np.cumsum(late[::-1] ** 2)[::-1]
    if len(left) < 2 or left[0] <= 0:
        return 0.0
    level = 10 * np.log10(np.maximum(left / left[0], 1e-12))
    times = np.flatnonzero((level <= -5) & (level >= -25))
    if len(times) < 2:
        return 0.0
    slope = float(np.polyfit(times / SAMPLE_RATE, level[times], 1)[0])
    return -60 / slope


def _decay_as_wanted(response: NDArray[np.float64], rt60: float) -> NDArray[np.float64]:
    """Return the response with its decay adjusted to ``rt60``, by a constant loss per metre.

    With equal walls, paths that graze two of them last about a third longer than Eyring's diffuse field.
    """
    have = measure_rt60(response)
    if have <= 0:
        return response
    times = np.arange(len(response)) / SAMPLE_RATE
    return response * np.exp(-3 * math.log(10) * (1 / rt60 - 1 / have) * times)


def simulate_room(rng: np.random.Generator, rt60: tuple[float, float] = (0.1, 0.7)) -> NDArray[np.float32]:
    """Return the 16-kHz impulse response of a random simulated shoebox room.

    The room measures 3-10 m x 3-8 m x 2.4-4 m. Source and microphone are anywhere at least 0.5 m from each
    other and from the walls. The direct path is sample 0. The tail is cut where the remaining energy
    (Schroeder's backward integral) falls below -60 dB, and the total energy is 1.

    Args:
        rng: source of all random choices.
        rt60: shortest and longest reverberation time in seconds; drawn uniformly.
    """
    low, high = rt60
    if not 0 < low <= high:
        raise RecipeError(f"rt60 must be two times in seconds with 0 < low <= high, not {rt60}")
    wanted = float(rng.uniform(low, high))
    size = rng.uniform(SMALLEST, LARGEST)
    source = rng.uniform(APART, size - APART)
    microphone = rng.uniform(APART, size - APART)
    while np.linalg.norm(source - microphone) < APART:
        microphone = rng.uniform(APART, size - APART)
    response = image_source(size, source, microphone, eyring_reflection(size, wanted), wanted)
    response = scipy.signal.sosfilt(
        scipy.signal.butter(2, HIGH_PASS, "highpass", fs=SAMPLE_RATE, output="sos"), response
    )
    response = _decay_as_wanted(response, wanted)
    left = np.cumsum(response[::-1] ** 2)[::-1]
    response = response[: max(1, int(np.searchsorted(-left, -left[0] * 1e-6)))]
    return np.asarray(response / np.linalg.norm(response), dtype=np.float32)


def room_bank(count: int, seed: int, rt60: tuple[float, float] = (0.1, 0.7)) -> list[NDArray[np.float32]]:
    """Return ``count`` simulated rooms; room ``i`` depends only on ``(seed, i)``."""
    return [simulate_room(np.random.default_rng([seed, index]), rt60) for index in range(count)]
