"""Checkpoints of a run: whole or not there, never unpickled into code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

__all__ = ["last_checkpoint", "load_checkpoint", "save_checkpoint"]

_NAME = re.compile(r"epoch-(\d+)\.ckpt")


def _all(folder: Path) -> list[Path]:
    found = [p for p in folder.glob("epoch-*.ckpt") if _NAME.fullmatch(p.name)] if folder.is_dir() else []
    return sorted(found, key=lambda p: int(p.stem.split("-")[1]))


def save_checkpoint(folder: Path, epoch: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``epoch-NNNN.ckpt`` atomically, then remove all but the newest ``keep``."""
    path = folder / f"epoch-{epoch:04d}.ckpt"
    with atomic_write(path, "wb") as file:
        torch.save(state, file)
    for old in _all(folder)[:-keep]:
        old.unlink()
    return path


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a folder, if there is one."""
    found = _all(folder)
    return found[-1] if found else None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's tensors and plain values.

    Raises:
        IdemvoxError: if the file is damaged or holds anything else.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise IdemvoxError(
            f"checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
            "tensors and plain values; delete it to resume from the one before"
        ) from error
    return state
