"""Starting from another run's weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch.optim import Optimizer

from idemvox.errors import RunError
from idemvox.frameworks.base import Framework
from idemvox.model import load_model
from idemvox.recipe import Recipe
from idemvox.registry import FRAMEWORKS
from idemvox.training.state.checkpoint import read_newest

__all__ = ["begin_from"]

_log = logging.getLogger(__name__)


def begin_from(
    source: Path, recipe: Recipe, framework: Framework, optimizer: Optimizer, named: str | None = None
) -> int:
    """Load another run's state into a framework and its optimiser.

    If the run has the same framework, everything is loaded: heads, optimiser and position in the schedule, as
    in the paper's SSPS phase. From another framework, or a model folder, only the encoder's weights are
    loaded. The same holds for a classifier of other classes: a class number then means another speaker, so
    its class vectors are new, even if there are as many.

    Args:
        source: run or model folder.
        recipe: recipe of this run.
        framework, optimizer: what to load into.
        named: hash of this run's class names, if it has classes.

    Returns:
        The number of epochs already trained, where the schedules continue.

    Raises:
        RunError: the weights do not fit the recipe.
    """
    state = read_newest(source / "checkpoints")
    try:
        if state.get("framework_name") != recipe.framework.name:
            _load_encoder(source, framework)
            return 0
        if FRAMEWORKS[recipe.framework.name].supervised and _other_classes(state, named):
            _log.warning("start_from %s: it has other classes, so only its encoder is used", source)
            _load_encoder(source, framework)
            return 0
        framework.begin_as(state["framework"])
        if state.get("optimizer_name", "adam") == recipe.training.optimizer:
            decay = [group["weight_decay"] for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizer"])
            for group, value in zip(optimizer.param_groups, decay, strict=True):
                group["weight_decay"] = value  # this recipe's, not the other run's
        return int(state["first"] + state["done"])
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"start_from {source}: its weights do not fit this recipe's encoder or heads; set the same "
            f"`encoder` and `framework` options, or give its model folder, to load only the encoder "
            f"({shorten(str(error), 300)})"
        ) from error


def _other_classes(state: Mapping[str, Any], named: str | None) -> bool:
    """Return whether a state's classes are known to be others than those with this hash of names."""
    classes = state.get("classes")
    return classes is not None and classes["named"] != named


def _load_encoder(source: Path, framework: Framework) -> None:
    encoder = load_model(source).network
    theirs, ours = encoder.frontend.settings, framework.encoder.frontend.settings
    if theirs != ours:
        raise RunError(
            f"start_from {source}: its encoder was trained with {theirs}, this recipe has {ours}; "
            "set the same `frontend`"
        )
    framework.begin_with(encoder.state_dict())
