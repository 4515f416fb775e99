"""Schedules by their formulas."""

from __future__ import annotations

import pytest

from idemvox.training.schedules import step_decay


def test_step_decay_is_the_papers():
    """Adam 1e-3, times 0.95 every 5 epochs."""
    rate = 1e-3
    for epoch in range(100):
        if epoch and epoch % 5 == 0:
            rate *= 0.95
        assert step_decay(epoch, 1e-3, 0.95, 5) == pytest.approx(rate, rel=1e-12)


def test_no_decay():
    assert {step_decay(e, 0.2, 1.0, 1) for e in range(10)} == {0.2}
