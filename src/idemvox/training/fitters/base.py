"""What every fitter is: how a recipe becomes a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from idemvox.recipe import Recipe
from idemvox.training.run import Run, StepResult

__all__ = ["Fitter", "Hooks", "Trained"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run leaves: its folders, the epochs behind its weights, and the last epoch's numbers."""

    folder: Path
    model: Path
    epochs: int
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller of :func:`train` wants done in passing; what a hook raises ends the run.

    Attributes:
        on_step: called after each step with the run and what the step was.
        on_epoch: called after each epoch with the run, whose ``numbers`` are then that epoch's.
    """

    on_step: Callable[[Run, StepResult], None] = lambda run, result: None
    on_epoch: Callable[[Run], None] = lambda run: None


class Fitter(Protocol):
    """Fits the encoder that a recipe names, and writes it as a model folder.

    A fitter is registered with ``@FITTERS.register(name)``; an encoder's class says which one is its own.
    """

    def fit(self, recipe: Recipe, folder: Path, *, resume: bool, progress: bool, hooks: Hooks) -> Trained:
        """Run a recipe into a folder.

        Args:
            recipe: what to do.
            folder: of the run.
            resume: from the newest sound checkpoint in it; there is one, of this recipe.
            progress: show a bar.
            hooks: for training by gradients; expectation-maximisation has no steps, and calls none.
        """
        ...
