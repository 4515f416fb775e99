"""Checks that a recipe may resume a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from idemvox.errors import RunError
from idemvox.recipe import RESUMES, Recipe, load_recipe, parse_recipe

__all__ = ["changed_keys", "objection", "refuse_another", "refuse_other_classes", "refuse_other_labels"]


def changed_keys(recipe: Recipe, other: Recipe) -> list[str]:
    """Return the keys whose difference makes a resume invalid."""
    free = tuple(_free_keys(Recipe))
    keys = recipe.differences(other)
    return [key for key in keys if not any(key == name or key.startswith(f"{name}.") for name in free)]


def _free_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys declared as :data:`~idemvox.recipe.Resumes`, such as ``training.workers``."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if RESUMES in field.metadata:
            yield prefix + name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _free_keys(kind, f"{prefix}{name}.")


def refuse_another(recipe: Recipe, saved: Path) -> None:
    """Raise an error if a recipe may not resume the run with the saved one."""
    if not saved.is_file():
        return
    changed = changed_keys(recipe, load_recipe(saved))
    training, before = recipe.training, load_recipe(saved).training
    if (
        training.schedule == "cosine"
        and training.schedule_epochs is None
        and training.epochs != before.epochs
    ):
        raise RunError(
            f"cannot resume {saved.parent} with training.epochs={training.epochs}: its cosine schedule spans "
            f"{before.epochs} epochs, because it has no training.schedule_epochs; give the same epochs"
        )
    if changed:
        raise RunError(
            f"cannot resume {saved.parent}: the recipe differs in {', '.join(changed)}; "
            "give the same values, or choose another --out"
        )


def refuse_other_labels(recipe: Recipe, before: str | None, now: str | None) -> None:
    """Raise an error if the table of classes, with these SHA-256 hashes, has changed."""
    if before != now:
        hashes = " is now ".join((value or "none")[:12] for value in (before, now))
        raise RunError(
            f"cannot resume: data.labels={recipe.data.labels} has changed since the run started (sha256 "
            f"{hashes}); restore the file, or choose another --out"
        )


def refuse_other_classes(before: str, now: str) -> None:
    """Raise an error if the classes' names, with these hashes, have changed: their numbers are others now."""
    if before != now:
        raise RunError(
            "cannot resume: the speakers of data.manifest are not those that the run started with; restore "
            "the manifest, or choose another --out"
        )


def objection(recipe: Recipe, corpora: Mapping[str, int], state: Mapping[str, Any]) -> str | None:
    """Return why a state belongs to another run than a recipe with these corpora; ``None`` if it does not.

    ``corpora`` maps names to numbers of utterances.
    """
    utterances = sum(corpora.values())
    its = state.get("utterances", utterances)
    if its != utterances:
        return f"is of {its} utterances, data.manifest has {utterances}"
    theirs, ours = list(state.get("corpora", corpora).values()), list(corpora.values())
    if theirs != ours:
        return f"is of corpora of {theirs} utterances, those of data.manifest have {ours}"
    changed = changed_keys(recipe, parse_recipe(state["recipe"])) if "recipe" in state else []
    return f"is of another run: its recipe differs in {', '.join(changed)}" if changed else None
