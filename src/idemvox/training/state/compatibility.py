"""Whether two recipes are of the same run."""

from __future__ import annotations

from pathlib import Path

from idemvox.errors import IdemvoxError
from idemvox.recipe import Recipe, load_recipe

__all__ = ["changed_keys", "refuse_another", "refuse_other_labels"]

_MAY_DIFFER = {
    "description",
    "training.epochs",
    "training.workers",
    "training.keep",
    "training.save_minutes",
    "training.save_steps",
    "training.bad_steps",
    "training.collapse_steps",
    "training.recompute",
    "training.device",
}


def changed_keys(recipe: Recipe, other: Recipe) -> list[str]:
    """Return the keys that make of two recipes two runs."""
    keys = recipe.differences(other)
    return [key for key in keys if key not in _MAY_DIFFER and not key.startswith("published")]


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
        raise IdemvoxError(
            f"cannot resume {saved.parent} with training.epochs={training.epochs}: its cosine schedule was "
            f"laid out for {before.epochs}, as it has no training.schedule_epochs; give the same epochs"
        )
    if changed:
        raise IdemvoxError(
            f"cannot resume {saved.parent}: the recipe differs in {', '.join(changed)}; "
            "give the same values, or another --out"
        )


def refuse_other_labels(recipe: Recipe, before: str | None, now: str | None) -> None:
    """Refuse to resume where the table of classes, of which these are the SHA-256, has changed."""
    if before != now:
        hashes = " is now ".join((value or "none")[:12] for value in (before, now))
        raise IdemvoxError(
            f"cannot resume: data.labels={recipe.data.labels} has changed since the run began (sha256 "
            f"{hashes}); restore the file, or choose another --out"
        )
