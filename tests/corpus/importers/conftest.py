"""Every corpus in turn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from .trees import CORPORA, Corpus


@pytest.fixture(params=CORPORA)
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    """Each corpus in turn, built in ``tmp_path / "in"``; ``prepare`` uses one thread and prints nothing."""
    found = CORPORA[request.param]
    (tmp_path / "in").mkdir()
    found.build(tmp_path / "in")
    return replace(found, prepare=partial(found.prepare, workers=1, progress=False))
