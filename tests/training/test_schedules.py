"""Schedules by their formulas."""

from __future__ import annotations

import math

import pytest

from idemvox.training.schedules import step_decay, warmup_cosine


def test_step_decay_is_the_papers():
    """Adam 1e-3, times 0.95 every 5 epochs."""
    rate = 1e-3
    for epoch in range(100):
        if epoch and epoch % 5 == 0:
            rate *= 0.95
        assert step_decay(epoch, 1e-3, 0.95, 5) == pytest.approx(rate, rel=1e-12)


def test_without_decay_the_rate_is_constant():
    assert {step_decay(e, 0.2, 1.0, 1) for e in range(10)} == {0.2}


def test_cosine_warms_up_linearly_and_reaches_its_end():
    """DINO's schedule: from 0 to 0.2 in 10 epochs, then down to 1e-5."""
    steps, warmup = 100 * 7, 10 * 7
    rates = [warmup_cosine(s, steps, warmup, 0.2, 1e-5) for s in range(steps)]
    assert rates[: warmup + 1] == pytest.approx([0.2 * s / warmup for s in range(warmup + 1)])
    for s in range(warmup, steps):
        angle = math.pi * (s - warmup) / (steps - 1 - warmup)
        assert rates[s] == pytest.approx(1e-5 + (0.2 - 1e-5) * (1 + math.cos(angle)) / 2)
    assert rates[-1] == 1e-5 == warmup_cosine(steps + 50, steps, warmup, 0.2, 1e-5)


def test_cosine_without_warmup_starts_at_its_maximum():
    assert [warmup_cosine(s, 3, 0, 1.0, 0.0) for s in range(3)] == pytest.approx([1, 0.5, 0])
    assert warmup_cosine(0, 1, 0, 1.0, 0.0) == 1
