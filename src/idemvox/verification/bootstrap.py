"""Confidence intervals of error rates, by resampling the speakers of a trial list (bootstrap)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.verification.counts import Ints, SortedTrials
from idemvox.verification.metrics import Floats, Method, eer_of

__all__ = ["Interval", "Measure", "eer_interval", "percentile_interval", "resampled", "resampled_eers"]

Measure = Callable[[SortedTrials], float]
"""A number of a trial list, such as ``lambda trials: min_dcf_of(trials, Costs(0.01))``."""


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
    """Return (draws, systems) the EERs with resampled speakers, as :func:`resampled` draws them.

    ``method`` is as in :func:`~idemvox.verification.metrics.eer`.
    """
    measures = [lambda trials: eer_of(trials, method).value]
    return resampled(systems, labels, enrol_speakers, test_speakers, measures, draws, seed)[:, :, 0]


def resampled(
    systems: Sequence[ArrayLike],
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    measures: Sequence[Measure],
    draws: int = 200,
    seed: int = 0,
) -> Floats:
    """Return (draws, systems, measures) metrics with resampled speakers, the same ones for all systems.

    Trials that share a speaker are not independent, so each draw takes S of the S speakers with replacement.
    An impostor trial then counts (times speaker a was drawn) x (times b was drawn); a target trial counts as
    often as its speaker was drawn.

    Args:
        systems: (N,) scores of each system, as in :func:`~idemvox.verification.metrics.error_rates`, for the
            same trials in the same order.
        labels: (N,) as in :func:`~idemvox.verification.metrics.error_rates`.
        enrol_speakers: (N,) speaker of each trial's first side; any names or numbers.
        test_speakers: (N,) speaker of its second side.
        measures: what to compute on each draw.
        draws: bootstrap draws; a draw without targets or without impostors is repeated.
        seed: makes the draws repeatable.
    """
    ordered = [SortedTrials(scores, labels) for scores in systems]
    enrol, test, speakers = _numbered(labels, enrol_speakers, test_speakers)
    if speakers < 2 or draws < 1:
        raise IdemvoxError("an interval by resampling speakers needs at least two speakers and one draw")
    drawn = [
        _Drawn(trials, np.asarray(scores), np.asarray(labels, np.bool_), enrol, test)
        for trials, scores in zip(ordered, systems, strict=True)
    ]
    rng = np.random.default_rng(seed)
    rows: list[list[list[float]]] = []
    for _ in range(20 * draws):
        times = rng.multinomial(speakers, np.full(speakers, 1 / speakers))  # (S,)
        if all([system.draw(times) for system in drawn]):  # a draw that lacks targets lacks them for all
            rows.append([[measure(system) for measure in measures] for system in drawn])
        if len(rows) == draws:
            return np.array(rows)
    raise CorpusError("too few speakers have target trials for an interval; use a larger trial list")


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


class _Drawn(SortedTrials):
    """Sorted trials of one system that count as often as their speakers were drawn."""

    def __init__(
        self,
        trials: SortedTrials,
        scores: NDArray[Any],
        labels: NDArray[np.bool_],
        enrol: NDArray[np.intp],
        test: NDArray[np.intp],
    ) -> None:
        self.targets, self.impostors, self.block = trials.targets, trials.impostors, trials.block
        target, impostor = (side[np.argsort(scores[side])] for side in map(np.flatnonzero, (labels, ~labels)))
        self._target = enrol[target]  # (M,) speaker of each target, scores rising
        self._impostor = enrol[impostor], test[impostor]
        self._positions = list(trials.positions())
        self._missed = self._rejected = np.zeros(1, np.int64)

    def draw(self, times: Ints) -> bool:
        """Count each speaker ``times`` (S,) from now on; return whether targets and impostors are left."""
        self._missed = _running(times[self._target])
        self._rejected = _running(times[self._impostor[0]] * times[self._impostor[1]])
        return bool(self._missed[-1] and self._rejected[-1])

    def missed(self, position: Any) -> Any:
        return self._missed[position]

    def rejected(self, position: Any) -> Any:
        return self._rejected[position]

    def positions(self) -> Iterator[tuple[Ints, Ints]]:
        return iter(self._positions)


def _running(weights: Ints) -> Ints:
    """Return (N + 1,) the sums of the first 0 to N weights."""
    sums = np.zeros(len(weights) + 1, np.int64)
    np.cumsum(weights, out=sums[1:])
    return sums
