"""Where a model comes from."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version
from typing import Any

import torch

from idemvox.processes import command_line
from idemvox.recipe import Recipe

__all__ = ["provenance"]


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
        "seed": recipe.seed,
        "epochs": epochs,
        "utterances": utterances,
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "idemvox": version("idemvox"),
        "torch": torch.__version__,
        "command": command_line(),
    }
