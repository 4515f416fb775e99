"""Whether two recipes are of the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from idemvox.errors import RunError
from idemvox.recipe import RESUMES, Recipe, load_recipe, parse_recipe

__all__ = ["changed_keys", "objection", "refuse_another", "refuse_other_labels"]


def changed_keys(recipe: Recipe, other: Recipe) -> list[str]:
    """Return the keys that make of two recipes two runs."""
    free = tuple(_free_keys(Recipe))
    keys = recipe.differences(other)
    return [key for key in keys if not any(key == name or key.startswith(f"{name}.") for name in free)]


def _free_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the keys, as ``training.workers``, that are declared as :data:`~idemvox.recipe.Resumes`."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if RESUMES in field.metadata:
            yield prefix + name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _free_keys(kind, f"{prefix}{name}.")


def refuse_another(recipe: Recipe, saved: Path) -> None:
    """Refuse to resume with a recipe that differs where it matters."""
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
            f"cannot resume {saved.parent} with training.epochs={training.epochs}: its cosine schedule was "
            f"laid out for {before.epochs}, as it has no training.schedule_epochs; give the same epochs"
        )
    if changed:
        raise RunError(
            f"cannot resume {saved.parent}: the recipe differs in {', '.join(changed)}; "
            "give the same values, or another --out"
        )


def refuse_other_labels(recipe: Recipe, before: str | None, now: str | None) -> None:
    """Refuse to resume where the table of classes, of which these are the SHA-256, has changed."""
    if before != now:
        hashes = " is now ".join((value or "none")[:12] for value in (before, now))
        raise RunError(
            f"cannot resume: data.labels={recipe.data.labels} has changed since the run began (sha256 "
            f"{hashes}); restore the file, or choose another --out"
        )


def objection(recipe: Recipe, corpora: Mapping[str, int], state: Mapping[str, Any]) -> str | None:
    """Say why a state is of another run than a recipe on such corpora, name to utterances, if it is."""
    utterances = sum(corpora.values())
    its = state.get("utterances", utterances)
    if its != utterances:
        return f"is of {its} utterances, data.manifest has {utterances}"
    theirs, ours = list(state.get("corpora", corpora).values()), list(corpora.values())
    if theirs != ours:
        return f"is of corpora of {theirs} utterances, those of data.manifest have {ours}"
    changed = changed_keys(recipe, parse_recipe(state["recipe"])) if "recipe" in state else []
    return f"is of another run: its recipe differs in {', '.join(changed)}" if changed else None
