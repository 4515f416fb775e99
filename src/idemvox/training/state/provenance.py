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


def known(recipe: Recipe) -> list[str]:
    """Return what training was told beside the audio: ``speakers`` (labels), ``recordings``, or nothing."""
    positives = POSITIVES[recipe.positives.name]
    options = recipe.positives.build(positives.Options, "positives")
    told = {
        "speakers": FRAMEWORKS[recipe.framework.name].supervised or positives.supervised,
        "recordings": positives.needs_recordings(options),
    }
    return [name for name, given in told.items() if given]


def provenance(recipe: Recipe, epochs: int, utterances: int | None, **more: Any) -> dict[str, Any]:
    """Return what a model folder tells of its training: plain values.

    Args:
        recipe: of the run.
        epochs: behind the weights.
        utterances: learnt from, if that is known.
        more: what else there is to say.
    """
    return {
        "recipe": recipe.name,
        **more,
        "known": known(recipe),
        "seed": recipe.seed,
        "epochs": epochs,
        "utterances": utterances,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "idemvox": version("idemvox"),
        "torch": torch.__version__,
        "command": command_line(),
    }
