"""Where a model comes from."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any

import torch

from idemvox.processes import command_line
from idemvox.recipe import Recipe
from idemvox.registry import FRAMEWORKS, POSITIVES

__all__ = ["known", "provenance"]


def known(recipe: Recipe, labels: str | None = None) -> list[str]:
    """Return what training was told beside the audio: ``speakers`` or a table of classes, ``recordings``.

    ``labels`` is the SHA-256 of the table, ``data.labels``.
    """
    positives = POSITIVES[recipe.positives.name]
    options = recipe.positives.build(positives.Options, "positives")
    table = recipe.data.labels
    classes = "speakers" if table is None else f"classes: {table.name}, sha256 {(labels or '')[:12]}"
    told = {
        classes: FRAMEWORKS[recipe.framework.name].supervised or positives.supervised,
        "recordings": positives.needs_recordings(options),
    }
    return [name for name, given in told.items() if given]


def provenance(
    recipe: Recipe, epochs: int, utterances: int | None, labels: str | None = None, **more: Any
) -> dict[str, Any]:
    """Return what a model folder tells of its training: plain values.

    Args:
        recipe: of the run.
        epochs: behind the weights.
        utterances: learnt from, if that is known.
        labels: SHA-256 of the table ``data.labels``, if there is one.
        more: what else there is to say.
    """
    return {
        "recipe": recipe.name,
        **more,
        "known": known(recipe, labels),
        **({"labels": {"file": str(recipe.data.labels), "sha256": labels}} if labels else {}),
        "seed": recipe.seed,
        "epochs": epochs,
        "utterances": utterances,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "idemvox": version("idemvox"),
        "torch": torch.__version__,
        "command": command_line(),
    }
