"""Checkpoints of a run: complete or absent, and loaded without executing code.

``epoch-0003.ckpt`` was written after three epochs, ``epoch-0003-fill-000200.ckpt`` after 200 batches of the
pass that fills the queues for the fourth, ``epoch-0003-step-000120.ckpt`` after 120 steps of that.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import torch

from idemvox.errors import IdemvoxError, RunError
from idemvox.files import atomic_write

__all__ = [
    "FORMAT",
    "last_checkpoint",
    "load_checkpoint",
    "read_newest",
    "remove_partial",
    "save_checkpoint",
    "whole_epochs",
]

FORMAT = 1
"""Version of the contents of a checkpoint; newer ones are skipped with a warning."""

_NAME = re.compile(r"epoch-(\d+)(?:-(fill|step)-(\d+))?\.ckpt")
RUN = frozenset({"framework", "positives", "optimizer", "first", "done"})
"""Keys that every state of a training run has."""

_log = logging.getLogger(__name__)


def _all(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, oldest first; within an epoch "" sorts before "fill" and "step"."""
    files = folder.iterdir() if folder.is_dir() else ()
    found = {p: m for p in files if (m := _NAME.fullmatch(p.name))}
    return sorted(found, key=lambda p: (int(found[p][1]), found[p][2] or "", int(found[p][3] or 0)))


def save_checkpoint(
    folder: Path,
    epoch: int,
    state: dict[str, Any],
    keep: int,
    within: tuple[Literal["fill", "step"], int] | None = None,
) -> Path:
    """Write a checkpoint atomically; keep only the newest ``keep``, and as many of complete epochs.

    Args:
        folder: folder of the run's checkpoints.
        epoch: number of finished epochs.
        state: tensors and plain values.
        keep: number of checkpoints to keep.
        within: progress in the next epoch: batches of its fill pass, or steps.

    Raises:
        RunError: the disk is full; earlier checkpoints are unchanged.
    """
    path = folder / (f"epoch-{epoch:04d}" + (f"-{within[0]}-{within[1]:06d}" if within else "") + ".ckpt")
    try:
        with atomic_write(path, "wb") as file:
            torch.save(state, file)
    except IdemvoxError as error:
        before = last_checkpoint(folder)
        raise RunError(
            f"{error}; " + (f"--resume resumes from {before}" if before else "there is no earlier checkpoint")
        ) from error
    for old in set(_all(folder)[:-keep]) - set(whole_epochs(folder)[-keep:]):
        old.unlink()
    return path


def whole_epochs(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder that were written after a complete epoch, oldest first."""
    return [path for path in _all(folder) if "-" not in path.stem.removeprefix("epoch-")]


def remove_partial(folder: Path) -> None:
    """Remove partial files of a killed run; no other process may be writing here."""
    for part in folder.glob(".epoch-*.ckpt.*.part"):
        part.unlink()


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder; ``None`` if there is none."""
    found = _all(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values.

    Raises:
        RunError: the file is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself does not verify check sums
            if archive.testzip() is not None:
                raise zipfile.BadZipFile("wrong check sum")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
            "tensors and plain values; delete it to resume from the previous one"
        ) from error
    if not isinstance(state, dict):
        raise RunError(f"checkpoint {path} is not from a run of idemvox: it holds a {type(state).__name__}")
    return state


def read_newest(
    folder: Path,
    parts: Collection[str] = RUN,
    objection: Callable[[dict[str, Any]], str | None] = lambda state: None,
) -> dict[str, Any]:
    """Read the newest usable checkpoint; warn of each one that is skipped.

    Args:
        folder: folder of a run's checkpoints.
        parts: keys that a state must have.
        objection: returns why a valid state belongs to another run; ``None`` if it does not.

    Returns:
        Its state; empty if there are no checkpoints.

    Raises:
        RunError: there are checkpoints, but none is usable.
    """
    checkpoints = _all(folder)
    for path in reversed(checkpoints):
        try:
            state = load_checkpoint(path)
            if reason := _foreign(state, parts) or objection(state):
                raise RunError(f"checkpoint {path} {reason}")
        except IdemvoxError as error:
            _log.warning("skipped: %s", error)
        else:
            return state
    if checkpoints:
        raise RunError(
            f"none of the {len(checkpoints)} checkpoints in {folder} can be loaded (the warnings say why): "
            "restore one from a backup, or delete them to start over"
        )
    return {}


def _foreign(state: dict[str, Any], parts: Collection[str]) -> str | None:
    """Return why this version cannot use a state; ``None`` if it can."""
    if state.get("format", 0) > FORMAT:
        return f"has format {state['format']}, this idemvox reads up to {FORMAT}"
    missing = set(parts) - state.keys()
    return f"is not from a run of idemvox (it has no {', '.join(sorted(missing))})" if missing else None
