"""Training in several processes, one per device."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from idemvox.launch import run_on
from idemvox.recipe import Recipe
from idemvox.training.fitters.base import Trained
from idemvox.training.loop import train

__all__ = ["train_on"]


def train_on(devices: int, recipe: Recipe, folder: Path, **options: Any) -> Trained | None:
    """Train a recipe like :func:`~idemvox.training.loop.train`, in several processes.

    The processes share a batch, so a recipe means the same on one device and on eight; losses equal those of
    one process up to the order of sums.

    Args:
        devices: number of processes: GPUs, or parts of a CPU. Under ``torchrun`` this process is one of them.
        recipe: the recipe.
        folder: run folder; only rank 0 writes to it.
        options: ``resume``, ``progress``.

    Returns:
        The result of training; ``None`` in those processes of ``torchrun`` that write nothing.

    Raises:
        IdemvoxError: training failed in one of the processes; the others are terminated.
    """
    gpus = recipe.training.device in ("auto", "cuda") and torch.cuda.is_available()
    return run_on(devices, partial(train, recipe, folder, **options), gpus=gpus)
