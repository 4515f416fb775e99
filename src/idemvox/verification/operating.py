"""Thresholds for false-accept rates, with intervals by resampling speakers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError

__all__ = ["ERRORS_NEEDED", "Point", "operating_points"]

Floats = NDArray[np.float64]

ERRORS_NEEDED = 30
"""False accepts in the calibration trials below which a rate is not supported (Doddington's rule of 30)."""


@dataclass(frozen=True, slots=True)
class Point:
    """The error rates at one threshold, on the calibration trials; all rates are fractions.

    Attributes:
        rate: the false-accept rate that the threshold is for, of two significant digits.
        llr: the threshold; accept at or above.
        far: the share of impostor trials accepted, at most ``rate``.
        low, high: 95 % interval of ``far``, by resampling speakers; ``None`` if speakers are unknown.
        missed: the share of target trials rejected.
    """

    rate: float
    llr: float
    far: float
    low: float | None
    high: float | None
    missed: float


def operating_points(
    llrs: Floats,
    labels: NDArray[np.bool_],
    speakers: tuple[ArrayLike, ArrayLike] | None,
    draws: int,
    seed: int,
) -> tuple[tuple[Point, ...], int | None]:
    """Return the thresholds for all supported rates, rates rising, and the number of speakers.

    There is a threshold for each rate of two significant digits below 1 at which at least
    :data:`ERRORS_NEEDED` impostor trials may be accepted.

    Args:
        llrs: (N,) log-likelihood ratios of the calibration trials.
        labels: (N,) True for targets.
        speakers: (N,) of the first sides and (N,) of the second sides, or ``None``.
        draws: bootstrap draws.
        seed: makes the draws repeatable.
    """
    targets, impostors = np.sort(llrs[labels]), np.sort(llrs[~labels])
    rates = _rates(ERRORS_NEEDED / len(impostors))
    thresholds = np.array([_threshold(impostors, rate) for rate in rates])  # falling
    far = (len(impostors) - np.searchsorted(impostors, thresholds)) / len(impostors)
    missed = np.searchsorted(targets, thresholds) / len(targets)
    bounds: list[tuple[float | None, float | None]] = [(None, None)] * len(rates)
    count = None
    if speakers is not None:
        first, second, count = _numbered(labels, speakers)
        accepted = np.searchsorted(-thresholds, -llrs[~labels])  # first threshold that accepts the trial
        low, high = _intervals(accepted, first, second, count, len(rates), draws, seed)
        bounds = list(zip(low.tolist(), high.tolist(), strict=True))
    columns = zip(rates, thresholds.tolist(), far.tolist(), bounds, missed.tolist(), strict=True)
    return tuple(Point(rate, t, f, low, high, m) for rate, t, f, (low, high), m in columns), count


def _rates(lowest: float) -> list[float]:
    """Return the numbers of two significant digits from ``lowest`` to below 1, rising."""
    decades = range(math.floor(math.log10(lowest)) - 1, -1) if lowest < 1 else range(0)
    rates = [float(f"{digits}e{decade}") for decade in decades for digits in range(10, 100)]
    return [rate for rate in rates if rate >= lowest]


def _threshold(impostors: Floats, rate: float) -> float:
    """Return a threshold, halfway between two impostors, that accepts at most ``rate`` of them (sorted)."""
    most = math.floor(rate * len(impostors) * (1 + 1e-12))
    below = impostors[len(impostors) - most - 1]  # the highest that must be rejected
    above = np.searchsorted(impostors, below, side="right")
    if above == len(impostors):
        return float(np.nextafter(below, np.inf))
    middle = below + (impostors[above] - below) / 2
    return float(middle if middle > below else impostors[above])


def _numbered(
    labels: NDArray[np.bool_], speakers: tuple[ArrayLike, ArrayLike]
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Return the speakers of both sides of the impostor trials as numbers, and the number of all speakers."""
    first, second = (np.asarray(side) for side in speakers)
    if first.shape != labels.shape or second.shape != labels.shape:
        raise IdemvoxError("need one speaker of the first side and one of the second side per trial")
    if not np.array_equal(first == second, labels):
        raise CorpusError("the speakers contradict the trial labels: check the manifest's speaker column")
    names, impostor = np.union1d(first, second), ~labels
    return np.searchsorted(names, first[impostor]), np.searchsorted(names, second[impostor]), len(names)


def _intervals(
    accepted: NDArray[np.intp],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    speakers: int,
    points: int,
    draws: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Return (points,) the 2.5 and 97.5 percentiles of the false-accept rates with resampled speakers.

    As in :func:`~idemvox.verification.bootstrap.resampled_eers`, a trial counts (times its first speaker was
    drawn) x (times its second speaker was drawn).

    Args:
        accepted: (I,) the first threshold that accepts each impostor trial; ``points`` if none does.
        first, second: (I,) speakers of the impostor trials.
        speakers: number of speakers.
        points: number of thresholds, falling.
        draws: bootstrap draws; those without an impostor trial are repeated.
        seed: makes the draws repeatable.
    """
    rng = np.random.default_rng(seed)
    rows: list[Floats] = []
    for _ in range(20 * draws):
        times = rng.multinomial(speakers, np.full(speakers, 1 / speakers)).astype(np.float64)
        counts = np.bincount(accepted, times[first] * times[second], points + 1)
        if counts.any():
            rows.append(np.cumsum(counts)[:points] / counts.sum())
        if len(rows) == draws:
            low, high = np.percentile(np.stack(rows), (2.5, 97.5), axis=0)
            return low, high
    raise CorpusError("too few speakers for an interval of the threshold; calibrate on more")
