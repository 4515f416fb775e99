"""Damaged audio files always give a verdict, an abstention or an error with a message."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mutated

    return mutated


def test_damaged_files_never_crash_the_verifier(module: ModuleType, tmp_path: Path) -> None:
    """The same 150 files in every run; benchmarks/mutated.py tries more."""
    files, verifier = module.intact(module.speech()), module.tiny_verifier()
    other = tmp_path / "other.wav"
    other.write_bytes(files["PCM_16.wav"])
    for name, data in files.items():
        assert module.outcome(verifier, tmp_path / name, data, other) == "verdict", name
    found: Counter[str] = Counter()
    for number in range(150):
        name, data = module.mutated(files, number, seed=1)
        assert data != files[name], number
        result = module.outcome(verifier, tmp_path / name, data, other)
        assert result in ("verdict", "abstains", "error"), (number, name, result)
        found[result] += 1
    assert len(found) == 3 and min(found.values()) >= 5, found  # enough damage, and not too much


def test_other_exceptions_and_errors_without_a_message_are_reported(
    module: ModuleType, tmp_path: Path
) -> None:
    class Broken:
        def __init__(self, error: Exception) -> None:
            self.error = error

        def verify(self, *recordings: Path) -> None:
            raise self.error

    for error, expected in (
        (module.IdemvoxError("a message"), "error"),
        (module.IdemvoxError(""), "an error without a message"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ):
        assert module.outcome(Broken(error), tmp_path / "a.wav", b"", tmp_path / "b.wav") == expected
