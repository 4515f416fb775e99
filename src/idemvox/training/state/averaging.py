"""Averaging the weights of a run's last epochs into a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from idemvox.corpus.classes import table_name
from idemvox.errors import RunError
from idemvox.model import Model, build_encoder, load_model
from idemvox.recipe import Recipe, load_recipe
from idemvox.registry import ENCODERS, FRAMEWORKS
from idemvox.training.state.checkpoint import load_checkpoint, whole_epochs
from idemvox.training.state.provenance import save_trained

__all__ = ["average"]

_CLASSES = 3  # any number that supervised frameworks accept; class vectors are not averaged


def average(run: Path, last: int, out: Path) -> Model:
    """Write the mean of the encoders in a run's ``last`` newest checkpoints of complete epochs.

    The encoder is the embedder: the teacher's, if there is one. Running statistics are averaged as well,
        which
    approximates those of the mean weights; counters are the newest's.

    Args:
        run: a run folder of gradient training.
        last: number of checkpoints; ``training.keep`` limits how many there are.
        out: a new model folder.

    Raises:
        RunError: there are fewer checkpoints, one is damaged, ``out`` holds a model, or the run was not
            trained by gradients.
    """
    if not (run / "recipe.yaml").is_file():
        raise RunError(f"{run} is not a run folder: it has no recipe.yaml")
    if (out / "model.json").exists():
        raise RunError(f"{out} holds a model: choose another --out")
    recipe = load_recipe(run / "recipe.yaml")
    if ENCODERS[recipe.encoder.name].fitter != "gradient":
        raise RunError(
            f"{run} is a run of {recipe.encoder.name}, which is not trained by gradients: "
            "its last checkpoint is the best"
        )
    checkpoints = whole_epochs(run / "checkpoints")
    if not 1 <= last <= len(checkpoints):
        raise RunError(
            f"{run} has {len(checkpoints)} checkpoints of complete epochs: cannot average {last}; "
            f"choose --last from 1 to {len(checkpoints)}, or train with training.keep={max(last, 1)}"
        )
    cls = FRAMEWORKS[recipe.framework.name]
    options = recipe.framework.build(cls.Options, "framework")
    framework = cls(build_encoder(recipe.encoder, recipe.frontend), options, _CLASSES)
    embedder = framework.embedder
    prefix = next(name for name, module in framework.named_modules() if module is embedder)
    total = {
        name: torch.zeros_like(value, dtype=torch.float64) for name, value in embedder.state_dict().items()
    }
    for path in checkpoints[-last:]:
        state = load_checkpoint(path)
        for name in total:
            total[name] += state["framework"][f"{prefix}.{name}"] / last
    newest = state["framework"]
    embedder.load_state_dict(
        {
            name: value if (kept := newest[f"{prefix}.{name}"]).is_floating_point() else kept
            for name, value in total.items()
        }
    )
    save_trained(
        out,
        embedder,
        recipe,
        scoring=framework.scoring,
        epochs=state["first"] + state["done"],
        utterances=state.get("utterances"),
        labels=state.get("labels"),
        classes=_classes(state, recipe),
        corpora=state.get("corpora"),
        averaged=[path.name for path in checkpoints[-last:]],
    )
    return load_model(out)


def _classes(state: Mapping[str, Any], recipe: Recipe) -> Sequence[str]:
    """Return what a run's classes are; older checkpoints do not tell, and knew no pseudo-speakers."""
    if classes := state.get("classes"):
        return list(classes["known"])
    table = recipe.data.labels
    return [table_name(table, state["labels"]) if table else "speakers"]
