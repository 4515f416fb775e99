"""The interface of fitters, which turn a recipe into a model."""

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
    """The result of a run.

    Attributes:
        folder: run folder.
        model: model folder.
        epochs: number of epochs trained, including those of the run it started from.
        numbers: numbers of the last epoch.
        best: folder of the best epoch's model by ``training.keep_best``; ``None`` if that is not set.
    """

    folder: Path
    model: Path
    epochs: int
    numbers: dict[str, float]
    best: Path | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions that :func:`train` calls during training; an exception in one ends the run.

    Attributes:
        on_step: called after each step with the run and the step's result.
        on_epoch: called after each epoch with the run; ``run.numbers`` are then that epoch's.
    """

    on_step: Callable[[Run, StepResult], None] = lambda run, result: None
    on_epoch: Callable[[Run], None] = lambda run: None


class Fitter(Protocol):
    """Fits the encoder that a recipe names, and writes it as a model folder.

    A fitter is registered with ``@FITTERS.register(name)``; the encoder's class names its fitter.
    """

    def fit(self, recipe: Recipe, folder: Path, *, resume: bool, progress: bool, hooks: Hooks) -> Trained:
        """Run a recipe into a folder.

        Args:
            recipe: the recipe.
            folder: run folder.
            resume: resume from the newest valid checkpoint; there is at least one, of this recipe.
            progress: show a progress bar.
            hooks: called in training by gradients; expectation-maximisation has no steps and calls none.
        """
        ...
