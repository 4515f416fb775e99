"""Two systems on the same trials: differences with confidence intervals, and the trials that change sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.table import Table
from scipy.special import bdtr

from idemvox.errors import IdemvoxError
from idemvox.verification.bootstrap import Interval, Measure, percentile_interval, resampled
from idemvox.verification.counts import SortedTrials
from idemvox.verification.metrics import Costs, Method, eer, eer_of, min_dcf_of

__all__ = [
    "Changed",
    "Comparison",
    "Difference",
    "changed_sides",
    "compare",
    "comparison_table",
    "eer_difference",
]

_MEASURES: dict[str, Measure] = {
    "EER": lambda trials: eer_of(trials).value,
    "minDCF p=0.01": lambda trials: min_dcf_of(trials, Costs(0.01)),
    "minDCF p=0.05": lambda trials: min_dcf_of(trials, Costs(0.05)),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of system b minus that of system a; b is better if it is below 0. EERs are fractions.

    Attributes:
        metric: its name, such as ``EER`` or ``minDCF p=0.01``.
        a, b: mean over the seeds of each system.
        difference: ``b - a``.
        interval: 95 % interval of the difference, by resampling speakers; ``None`` if they are unknown.
        relative: the difference as a fraction of ``a``; ``None`` if that is 0 in the trials or in a draw.
        relative_interval: 95 % interval of the relative difference.
    """

    metric: str
    a: float
    b: float
    difference: float
    interval: Interval | None
    relative: float | None
    relative_interval: Interval | None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval and it lies on one side of 0."""
        return self.interval is not None and (self.interval.low > 0 or self.interval.high < 0)

    @property
    def absolute_text(self) -> str:
        """The difference with its interval: ``-0.52 points (-0.90 to -0.11)``; minDCF has no unit."""
        scale, digits, unit = (100, 2, " points") if self.metric == "EER" else (1, 4, "")
        text = f"{scale * self.difference:+.{digits}f}{unit}"
        if self.interval is not None:
            low, high = scale * self.interval.low, scale * self.interval.high
            text += f" ({low:+.{digits}f} to {high:+.{digits}f})"
        return text

    @property
    def relative_text(self) -> str:
        """The relative difference with its interval: ``-8.1 % (-13.5 to -1.9)``; empty if there is none."""
        if self.relative is None:
            return ""
        text = f"{100 * self.relative:+.1f} %"
        if self.relative_interval is not None:
            low, high = 100 * self.relative_interval.low, 100 * self.relative_interval.high
            text += f" ({low:+.1f} to {high:+.1f})"
        return text

    def __str__(self) -> str:
        return ", ".join(text for text in (self.absolute_text, self.relative_text) if text)


@dataclass(frozen=True, slots=True)
class Changed:
    """Trials on which two systems disagree, each at the threshold of its own EER (McNemar's table).

    Attributes:
        only_a, only_b: trials that only this system decides rightly.
        p: exact two-sided binomial probability of so uneven a split if both were equally good *and* trials
        were
            independent. They are not, since many share a speaker: it is far too small. The intervals of the
            differences are what to go by.
    """

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """System b against system a on one trial list, all from the same draws of speakers.

    Attributes:
        differences: EER, minDCF with p_target = 0.01 and with 0.05; costs of both errors 1.
        changed: trials that change sides; ``None`` with several seeds.
    """

    differences: tuple[Difference, ...]
    changed: Changed | None


def compare(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike | None = None,
    test_speakers: ArrayLike | None = None,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same trials, with all metrics scored on the same draws of speakers.

    Args:
        scores_a: as for :func:`eer_difference`; the same for all that follow.
        scores_b: scores of the other system.
        labels: (N,) target or impostor.
        enrol_speakers: speaker of each trial's first side; without speakers there are no intervals.
        test_speakers: speaker of its second side.
        draws: bootstrap draws.
        seed: makes the intervals repeatable.
    """
    a, b = _seeds(scores_a), _seeds(scores_b)
    speakers = None if enrol_speakers is None or test_speakers is None else (enrol_speakers, test_speakers)
    differences = _differences(a, b, labels, speakers, _MEASURES, draws, seed)
    changed = changed_sides(a[0], b[0], labels) if len(a) == len(b) == 1 else None
    return Comparison(differences, changed)


def comparison_table(found: Comparison, trials: str, other: str) -> Table:
    """Return a table for the terminal: the model (system b) against the ``other`` one on these trials."""
    notes = ["below 0: better than the other model"]
    if found.differences[0].interval is not None:
        notes.append("95 % intervals, speakers resampled, the same for both")
    if found.changed is not None:
        sides = found.changed
        notes.append(
            f"right where the other is wrong, each at its own EER threshold: {sides.only_b:,} trials; wrong"
            f" where it is right: {sides.only_a:,} (exact binomial p = {sides.p:.2g}, too small because"
            " trials share speakers)"
        )
    table = Table(title=f"{trials}: against {other}", caption="; ".join(notes))
    table.add_column("")
    for heading in ("other", "this", "difference", "relative"):
        table.add_column(heading, justify="right")
    for row in found.differences:
        values = [f"{100 * v:.2f} %" if row.metric == "EER" else f"{v:.4f}" for v in (row.a, row.b)]
        table.add_row(row.metric, *values, row.absolute_text, row.relative_text)
    return table


def changed_sides(scores_a: ArrayLike, scores_b: ArrayLike, labels: ArrayLike) -> Changed:
    """Count the trials that only one of two systems decides rightly, each at its own EER threshold."""
    label = np.asarray(labels).astype(np.bool_)
    right_a, right_b = (
        (np.asarray(scores, np.float64) >= eer(scores, labels).threshold) == label
        for scores in (scores_a, scores_b)
    )
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    p = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    return Changed(only_a, only_b, p)


def eer_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    labels: ArrayLike,
    enrol_speakers: ArrayLike,
    test_speakers: ArrayLike,
    *,
    draws: int = 1000,
    seed: int = 0,
    method: Method = "nearest",
) -> Difference:
    """Return the difference of two systems' EERs on the same trials, with its interval.

    This is a paired bootstrap over *speakers*: each draw resamples the speakers with replacement, and both
    systems (with all their seeds) are measured on the same draw. Speakers that are hard for both cancel, so
    the interval is narrower than the intervals of the two EERs suggest. EERs of several seeds are averaged
    within each draw.

    The interval shows how much other speakers would change the difference, not how much other seeds would.

    Args:
        scores_a: (N,) scores of the baseline, or (seeds, N), one row per seed.
        scores_b: scores of the other system for the same trials in the same order, with any number of seeds.
        labels: (N,) 1 or True for target trials (same speaker), 0 or False for impostor trials.
        enrol_speakers: (N,) speaker of each trial's first side; any names or numbers
            (:meth:`Trials.speakers <idemvox.verification.trials.Trials.speakers>` gives both sides).
        test_speakers: (N,) speaker of its second side.
        draws: bootstrap draws.
        seed: makes the interval repeatable.
        method: as in :func:`~idemvox.verification.metrics.eer`.

    Raises:
        IdemvoxError: scores do not fit the trials, or speakers contradict the labels.
    """
    measures: dict[str, Measure] = {"EER": lambda trials: eer_of(trials, method).value}
    speakers = (enrol_speakers, test_speakers)
    [found] = _differences(_seeds(scores_a), _seeds(scores_b), labels, speakers, measures, draws, seed)
    return found


def _differences(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    labels: ArrayLike,
    speakers: tuple[ArrayLike, ArrayLike] | None,
    measures: Mapping[str, Measure],
    draws: int,
    seed: int,
) -> tuple[Difference, ...]:
    """Return one difference per measure, all on the same draws."""
    ordered = [SortedTrials(scores, labels) for scores in (*a, *b)]
    found = np.array([[measure(trials) for measure in measures.values()] for trials in ordered])
    means = np.stack([found[: len(a)].mean(0), found[len(a) :].mean(0)])  # (2, measures)
    drawn = None
    if speakers is not None:
        values = resampled([*a, *b], labels, *speakers, list(measures.values()), draws, seed)
        drawn = np.stack([values[:, : len(a)].mean(1), values[:, len(a) :].mean(1)])  # (2, draws, measures)
    return tuple(
        _difference(name, float(means[0, i]), float(means[1, i]), None if drawn is None else drawn[:, :, i])
        for i, name in enumerate(measures)
    )


def _difference(name: str, a: float, b: float, drawn: NDArray[np.float64] | None) -> Difference:
    """Return the difference of one metric; ``drawn`` (2, draws) holds both systems' values."""
    relative = (b - a) / a if a > 0 and (drawn is None or bool(np.all(drawn[0] > 0))) else None
    if drawn is None:
        return Difference(name, a, b, b - a, None, relative, None)
    interval = percentile_interval(drawn[1] - drawn[0])
    ratio = None if relative is None else percentile_interval((drawn[1] - drawn[0]) / drawn[0])
    return Difference(name, a, b, b - a, interval, relative, ratio)


def _seeds(scores: ArrayLike) -> NDArray[np.float64]:
    """Return (seeds, N) the scores of a system."""
    rows = np.asarray(scores, np.float64)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) == 0:
        raise IdemvoxError(f"scores of a system must be (trials,) or (seeds, trials), got shape {rows.shape}")
    return rows
