"""Confidence intervals of error rates, by resampling the speakers of a trial list (bootstrap)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.verification.metrics import Floats, Method, SortedTrials, eer_of_counts

__all__ = ["Interval", "eer_interval", "percentile_interval", "resampled_eers"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Confidence interval of a rate; all values are fractions."""

    low: float
    high: float
    draws: int


def eer_interval(
    scores: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    draws: int = 200,
    seed: int = 0,
    method: Method = "nearest",
) -> Interval:
    """Return the 95 % confidence interval of the EER, by resampling *speakers*, not trials.

    It spans percentiles 2.5 to 97.5 of :func:`resampled_eers`. With fewer than about 20 speakers even this
    interval is somewhat too narrow. Arguments are as for :func:`resampled_eers`, for one system.
    """
    return percentile_interval(
        resampled_eers([scores], labels, enrol_speakers, test_speakers, draws, seed, method)[:, 0]
    )


def percentile_interval(values: Floats) -> Interval:
    """Return the 95 % interval of bootstrap values (draws,): their percentiles 2.5 and 97.5."""
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high), len(values))


def resampled_eers(
    systems: Sequence[ArrayLike],
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    draws: int = 200,
    seed: int = 0,
    method: Method = "nearest",
) -> Floats:
    """Return (draws, systems) the EERs with resampled speakers, the same ones for all systems.

    Trials that share a speaker are not independent, so each draw takes S of the S speakers with replacement.
    An impostor trial then counts (times speaker a was drawn) x (times b was drawn); a target trial counts as
    often as its speaker was drawn.

    Args:
        systems: (N,) scores of each system, as in :func:`~idemvox.verification.metrics.error_rates`, for the
            same trials in the same order.
        labels: (N,) as in :func:`~idemvox.verification.metrics.error_rates`.
        enrol_speakers: (N,) speaker of each trial's first side; any names or numbers.
        test_speakers: (N,) speaker of its second side.
        draws: bootstrap draws; a draw without targets or without impostors is repeated.
        seed: makes the draws repeatable.
        method: as in :func:`~idemvox.verification.metrics.eer`.
    """
    ordered = [SortedTrials(scores, labels) for scores in systems]
    enrol, test, speakers = _numbered(labels, enrol_speakers, test_speakers)
    if speakers < 2 or draws < 1:
        raise IdemvoxError("an EER interval needs at least two speakers and one draw")
    weighted = [_Weighted(trials, enrol, test, method) for trials in ordered]
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []
    for _ in range(20 * draws):
        times = rng.multinomial(speakers, np.full(speakers, 1 / speakers))  # (S,)
        row = [value for system in weighted if (value := system.eer(times)) is not None]
        if len(row) == len(weighted):  # a draw without targets or impostors lacks them for every system
            rows.append(row)
        if len(rows) == draws:
            return np.array(rows)
    raise CorpusError("too few speakers have target trials for an EER interval; use a larger trial list")


def _numbered(
    labels: ArrayLike, enrol_speakers: ArrayLike, test_speakers: ArrayLike
) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Return the speakers of both sides as numbers from 0, and the number of speakers."""
    label, enrol, test = np.asarray(labels, np.bool_), np.asarray(enrol_speakers), np.asarray(test_speakers)
    if enrol.shape != label.shape or test.shape != label.shape:
        raise IdemvoxError("need one enrol speaker and one test speaker per trial")
    names = np.union1d(enrol, test)
    enrol, test = np.searchsorted(names, enrol), np.searchsorted(names, test)
    if not np.array_equal(enrol == test, label):
        raise CorpusError("the speakers contradict the trial labels: check the manifest's speaker column")
    return enrol, test, len(names)


class _Weighted:
    """Sorted trials of one system whose weights change from draw to draw."""

    def __init__(
        self, trials: SortedTrials, enrol: NDArray[np.intp], test: NDArray[np.intp], method: Method
    ) -> None:
        enrol, test = enrol[trials.order], test[trials.order]
        self.thresholds, self.method = trials.thresholds, method
        self.targets = enrol[trials.label]  # speaker of each target, scores rising
        self.impostors = enrol[~trials.label], test[~trials.label]
        self.targets_below = np.append(0, np.cumsum(trials.label))[trials.below]  # (K + 1,)
        self.impostors_below = trials.below - self.targets_below

    def eer(self, times: NDArray[np.int64]) -> float | None:
        """Return the EER if each speaker counts ``times`` (S,); ``None`` without targets or impostors."""
        missed = _running(times[self.targets])
        rejected = _running(times[self.impostors[0]] * times[self.impostors[1]])
        if not missed[-1] or not rejected[-1]:
            return None

        def counts(number: int) -> tuple[int, int]:
            accepted = rejected[-1] - rejected[self.impostors_below[number]]
            return int(missed[self.targets_below[number]]), int(accepted)

        return eer_of_counts(self.thresholds, counts, self.method).value


def _running(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (N + 1,) the sums of the first 0 to N weights."""
    sums = np.zeros(len(weights) + 1, np.int64)
    np.cumsum(weights, out=sums[1:])
    return sums
