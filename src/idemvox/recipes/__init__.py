"""The recipes that come with idemvox, YAML files in this folder; finding and reading a recipe.

A recipe with a ``base`` holds only the keys that differ from that recipe:

    base: dino                      # or the path of a file, relative to this one
    encoder: ecapa_tdnn
    training: {epochs: 20}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from idemvox.errors import RecipeError, unknown_name

__all__ = ["find_recipe", "read_recipe", "recipe_names"]

FOLDER = Path(__file__).parent

_OWN = ("name", "description", "published")
"""Keys that describe one recipe, and are not inherited from its base."""


def recipe_names() -> list[str]:
    """Return the sorted names of the recipes that come with idemvox."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_recipe(recipe: str | Path, folder: Path = Path()) -> Path:
    """Return the file of a recipe: one that comes with idemvox by its name, any other by its path.

    Args:
        recipe: name or path.
        folder: folder that relative paths start from.

    Raises:
        RecipeError: there is none; the message suggests the recipe that was probably meant.
    """
    path, names = folder / recipe, recipe_names()
    if str(recipe) in names:
        return FOLDER / f"{recipe}.yaml"
    if path.is_file():
        return path
    if path.name == str(recipe) and path.suffix not in (".yaml", ".yml"):  # a name, not a path
        if (folder / f"{recipe}.yaml").is_file():
            raise RecipeError(
                f"no recipe of idemvox is called {recipe}; did you mean the file {recipe}.yaml?"
            )
        raise unknown_name("recipe", str(recipe), names)
    if path.stem in names:
        hint = f"; for the recipe that comes with idemvox give its name only: {path.stem}"
    else:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; {path.parent} has: {', '.join(near)}" if near else ""
    raise RecipeError(f"no recipe {path}{hint}")


def read_recipe(recipe: str | Path) -> tuple[dict[str, Any], list[Path]]:
    """Return a recipe's keys and values, with those of its base, the base's base and so on filled in.

    Returns:
        The values, not validated yet, and the files they come from: the recipe's, its base's, ...

    Raises:
        RecipeError: a file is missing or not YAML, or the bases form a circle.
    """
    file = find_recipe(recipe)
    files: list[Path] = []
    trees: list[dict[str, Any]] = []
    while True:
        if any(file.samefile(before) for before in files):
            circle = " -> ".join(map(str, [*files, file]))
            raise RecipeError(f"recipes are each other's base, {circle}: remove 'base' from one of them")
        tree = _read(file)
        base = tree.pop("base", None)
        files.append(file)
        trees.append(tree)
        if base is None:
            break
        if not isinstance(base, str):
            raise RecipeError(f"{file}: 'base' should be the name or path of a recipe, not {base!r}")
        try:
            file = find_recipe(base, file.parent)
        except RecipeError as error:
            raise RecipeError(f"the base of {file}: {error}") from error
    values = trees.pop()
    for tree in reversed(trees):
        values = _update(tree, {key: value for key, value in values.items() if key not in _OWN})
    return values, files


def _read(file: Path) -> dict[str, Any]:
    """Return the keys and values of one file."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{file} is not a recipe: it should hold key: value pairs")
    return tree


def _update(tree: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` updated with the values of ``tree``, key by key at every depth.

    If ``tree`` names another framework, encoder or sampler, the base's options for it are dropped.
    """
    values = dict(base)
    for key, value in tree.items():
        below = base.get(key)
        if isinstance(below, str):  # "framework: simclr" is short for a name
            below = {"name": below}
        if isinstance(value, dict) and isinstance(below, dict):
            same = value.get("name") in (None, below.get("name"))
            values[key] = _update(value, below) if same else value
        else:
            values[key] = value
    return values
