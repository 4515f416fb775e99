"""The difference between two systems' EERs on the same trials, with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import IdemvoxError
from idemvox.verification.bootstrap import Interval, percentile_interval, resampled_eers
from idemvox.verification.metrics import Method, eer

__all__ = ["EERDifference", "eer_difference"]


@dataclass(frozen=True, slots=True)
class EERDifference:
    """EER of system b minus that of system a, as fractions; b is better if it is below 0.

    Attributes:
        eer_a, eer_b: mean over the seeds of each system.
        difference: ``eer_b - eer_a``.
        interval: 95 % interval of the difference, by resampling speakers.
        relative: the difference as a fraction of ``eer_a``; ``None`` if that is 0 in the trials or in a draw.
        relative_interval: 95 % interval of the relative difference.
    """

    eer_a: float
    eer_b: float
    difference: float
    interval: Interval
    relative: float | None
    relative_interval: Interval | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval.low > 0 or self.interval.high < 0

    def __str__(self) -> str:
        low, high = 100 * self.interval.low, 100 * self.interval.high
        text = f"{100 * self.difference:+.2f} points ({low:+.2f} to {high:+.2f})"
        if self.relative is not None and self.relative_interval is not None:
            low, high = 100 * self.relative_interval.low, 100 * self.relative_interval.high
            text += f", {100 * self.relative:+.1f} % ({low:+.1f} to {high:+.1f})"
        return text


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
) -> EERDifference:
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
    a, b = _seeds(scores_a), _seeds(scores_b)
    values = resampled_eers([*a, *b], labels, enrol_speakers, test_speakers, draws, seed, method)
    drawn_a, drawn_b = values[:, : len(a)].mean(1), values[:, len(a) :].mean(1)  # (draws,)
    eer_a, eer_b = (float(np.mean([eer(s, labels, method).value for s in system])) for system in (a, b))
    has_relative = eer_a > 0 and bool(np.all(drawn_a > 0))
    return EERDifference(
        eer_a,
        eer_b,
        eer_b - eer_a,
        percentile_interval(drawn_b - drawn_a),
        (eer_b - eer_a) / eer_a if has_relative else None,
        percentile_interval((drawn_b - drawn_a) / drawn_a) if has_relative else None,
    )


def _seeds(scores: ArrayLike) -> NDArray[np.float64]:
    """Return (seeds, N) the scores of a system."""
    rows = np.asarray(scores, np.float64)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) == 0:
        raise IdemvoxError(f"scores of a system must be (trials,) or (seeds, trials), got shape {rows.shape}")
    return rows
