"""Imported weights compared with the toolkits' own code, if installed, on simulated voices."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import parity

    return parity


@pytest.mark.slow
@pytest.mark.parametrize("toolkit", ["resemblyzer", "speechbrain", "sslsv"])
def test_embeddings_equal_the_toolkits(parity: ModuleType, toolkit: str) -> None:
    pytest.importorskip(toolkit, reason=f"{toolkit} is not installed", exc_type=ImportError)
    rng = np.random.default_rng(0)
    waves = []
    for seconds in (0.5, 2.2, 4.0):
        t = np.arange(int(16_000 * seconds)) / 16_000
        tones = sum(np.sin(2 * np.pi * 120 * n * t) / n for n in range(1, 15))
        waves.append((0.1 * tones * np.sin(9 * t) + 0.01 * rng.standard_normal(len(t))).astype(np.float32))
    for row in parity.compare(toolkit, waves):
        assert row["largest difference"] < 1e-4, row
