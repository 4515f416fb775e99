"""Schedules: pure functions of the epoch or step."""

from __future__ import annotations

import math

__all__ = ["step_decay", "warmup_cosine"]


def step_decay(epoch: int, base: float, decay: float, every: int) -> float:
    """Return ``base`` multiplied by ``decay`` once every ``every`` epochs.

    >>> [round(step_decay(e, 1e-3, 0.95, 5), 6) for e in (0, 4, 5, 10)]
    [0.001, 0.001, 0.00095, 0.000902]
    """
    return float(base * decay ** (epoch // every))


def warmup_cosine(step: int, steps: int, warmup: int, base: float, least: float) -> float:
    """Return the rate at a step: linear from 0 to ``base``, then half a cosine down to ``least``.

    In the SSPS paper's public code the cosine takes another ``steps`` after the warm-up, so it never reaches
    ``least``: of DINO's 100 epochs the 80th starts at 0.041 and the last ends at 0.005, here at 0.023 and
    1e-5. ``training.schedule_epochs: 110`` gives the code's rates (and a teacher's momentum over 110 epochs).

    Args:
        step: from 0 to ``steps`` - 1; later steps have the last rate.
        steps: steps of the whole schedule.
        warmup: steps before the highest rate.
        base: the highest rate, at step ``warmup``.
        least: the rate at the last step.

    >>> [round(warmup_cosine(s, 7, 2, 0.2, 0.0), 4) for s in range(7)]
    [0.0, 0.1, 0.2, 0.1707, 0.1, 0.0293, 0.0]
    """
    if step < warmup:
        return base * step / warmup
    done = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
    return least + (base - least) * (1 + math.cos(math.pi * done)) / 2
