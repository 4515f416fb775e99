"""The provenance of a trained model, and writing its folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from idemvox.embedder import Scoring
from idemvox.encoders.base import Encoder
from idemvox.files import read_json
from idemvox.model import save_model
from idemvox.processes import command_line
from idemvox.recipe import Recipe
from idemvox.registry import FRAMEWORKS, POSITIVES

__all__ = ["epochs_behind", "known", "provenance", "save_trained"]


def known(recipe: Recipe, classes: Sequence[str] = ("speakers",)) -> list[str]:
    """Return the labels that training used: its classes, ``recordings``.

    ``classes`` says what the classes are: ``speakers``, pseudo-speakers or a table.
    """
    positives = POSITIVES[recipe.positives.name]
    options = recipe.positives.build(positives.Options, "positives")
    supervised = FRAMEWORKS[recipe.framework.name].supervised or positives.supervised
    recordings = positives.needs_recordings(options)
    return [*(classes if supervised else ()), *(["recordings"] if recordings else [])]


def provenance(
    recipe: Recipe,
    epochs: int,
    utterances: int | None,
    labels: str | None = None,
    classes: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Return the provenance to store in a model folder, as plain values.

    Args:
        recipe: recipe of the run.
        epochs: number of epochs trained.
        utterances: number of training utterances, if known.
        labels: SHA-256 of the table ``data.labels``, if there is one.
        classes: what the classes are, as for :func:`known`.
        more: further values.
    """
    return {
        "recipe": recipe.name,
        **more,
        **({"start_from": str(recipe.start_from)} if recipe.start_from else {}),
        "known": known(recipe, classes),
        **({"labels": {"file": str(recipe.data.labels), "sha256": labels}} if labels else {}),
        "seed": recipe.seed,
        "epochs": epochs,
        "utterances": utterances,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "idemvox": version("idemvox"),
        "torch": torch.__version__,
        "command": command_line(),
    }


def save_trained(
    folder: Path, encoder: Encoder, recipe: Recipe, *, scoring: Scoring, epochs: int, **more: Any
) -> None:
    """Write the model folder of an encoder that a recipe trained; the rest is as for :func:`provenance`."""
    if encoder.fitter == "gradient":
        more |= {"framework": recipe.framework.model_dump(), "positives": recipe.positives.model_dump()}
    values = provenance(recipe, epochs, **more)
    save_model(folder, encoder, recipe.encoder, recipe.frontend, values, scoring=scoring)


def epochs_behind(folder: Path) -> int | None:
    """Return the number of epochs that a model folder's weights were trained; ``None`` without a model."""
    file = folder / "model.json"
    values = read_json(file).get("provenance", {}) if file.is_file() else {}
    epochs: int | None = values.get("epochs")
    return epochs
