"""Schedules: pure functions of the epoch or step."""

from __future__ import annotations

__all__ = ["step_decay"]


def step_decay(epoch: int, base: float, decay: float, every: int) -> float:
    """Return ``base`` multiplied by ``decay`` once every ``every`` epochs.

    >>> [round(step_decay(e, 1e-3, 0.95, 5), 6) for e in (0, 4, 5, 10)]
    [0.001, 0.001, 0.00095, 0.000902]
    """
    return float(base * decay ** (epoch // every))
