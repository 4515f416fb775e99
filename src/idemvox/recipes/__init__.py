"""The recipes that come with idemvox, each a YAML file beside this one, and how a recipe is found."""

from __future__ import annotations

from pathlib import Path

from idemvox.errors import IdemvoxError, unknown_name

__all__ = ["find_recipe", "recipe_names"]

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with idemvox, in alphabetical order."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_recipe(recipe: str | Path) -> Path:
    """Return the file of a recipe that comes with idemvox, given by its name, or of any other, by its path.

    Raises:
        IdemvoxError: if there is none; the message suggests what was probably meant.
    """
    path, names = Path(recipe), recipe_names()
    if str(recipe) in names:
        return FOLDER / f"{recipe}.yaml"
    if path.is_file():
        return path
    if path.name == str(recipe) and path.suffix not in (".yaml", ".yml"):  # a name, not a path
        beside = path.with_name(f"{path.name}.yaml")
        raise unknown_name("recipe", str(recipe), [*names, *([str(beside)] if beside.is_file() else [])])
    if path.stem in names:
        hint = f"; the one that comes with idemvox goes by its name alone: {path.stem}"
    else:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; {path.parent} has: {', '.join(near)}" if near else ""
    raise IdemvoxError(f"no recipe {path}{hint}")
