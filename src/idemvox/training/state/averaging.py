"""The mean of a run's last weights, as a model."""

from __future__ import annotations

from pathlib import Path

import torch

from idemvox.errors import RunError
from idemvox.model import Model, build_encoder, load_model
from idemvox.recipe import load_recipe
from idemvox.registry import ENCODERS, FRAMEWORKS
from idemvox.training.state.checkpoint import load_checkpoint, whole_epochs
from idemvox.training.state.provenance import save_trained

__all__ = ["average"]

_CLASSES = 3  # that any supervised framework can be built with; class vectors are not averaged


def average(run: Path, last: int, out: Path) -> Model:
    """Write the mean of the encoders of a run's newest checkpoints of whole epochs, ``last`` of them.

    It is the embedder's: the teacher's where there is one.  Running statistics are averaged as well, which
    comes near to those of the mean weights; what is counted is the newest's.

    Args:
        run: a run folder of gradient training.
        last: how many; ``training.keep`` decides how many there are.
        out: a new model folder.

    Raises:
        RunError: if there are fewer, one is damaged, ``out`` holds a model, or nothing was trained by
            gradients.
    """
    if not (run / "recipe.yaml").is_file():
        raise RunError(f"{run} is not a run folder: it has no recipe.yaml")
    if (out / "model.json").exists():
        raise RunError(f"{out} holds a model: choose another --out")
    recipe = load_recipe(run / "recipe.yaml")
    if ENCODERS[recipe.encoder.name].fitter != "gradient":
        raise RunError(
            f"{run} is of {recipe.encoder.name}, which is not trained by gradients: "
            "its last checkpoint is the best"
        )
    found = whole_epochs(run / "checkpoints")
    if not 1 <= last <= len(found):
        raise RunError(
            f"{run} has {len(found)} checkpoints of whole epochs, so the mean of {last} cannot be taken; "
            f"choose --last from 1 to {len(found)}, or train with training.keep={max(last, 1)}"
        )
    cls = FRAMEWORKS[recipe.framework.name]
    options = recipe.framework.build(cls.Options, "framework")
    framework = cls(build_encoder(recipe.encoder, recipe.frontend), options, _CLASSES)
    embedder = framework.embedder
    prefix = next(name for name, module in framework.named_modules() if module is embedder)
    total = {
        name: torch.zeros_like(value, dtype=torch.float64) for name, value in embedder.state_dict().items()
    }
    for path in found[-last:]:
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
        corpora=state.get("corpora"),
        averaged=[path.name for path in found[-last:]],
    )
    return load_model(out)
