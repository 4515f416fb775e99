"""The recipes that come with idemvox, each a YAML file beside this one; how a recipe is found and read.

A recipe that names another as its ``base`` holds only what differs from it:

    base: dino                      # or the path of a file, from the folder of this one
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
"""Keys that say what one recipe is, and of a base nothing about the recipe that builds on it."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with idemvox, in alphabetical order."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find_recipe(recipe: str | Path, folder: Path = Path()) -> Path:
    """Return the file of a recipe that comes with idemvox, given by its name, or of any other, by its path.

    Args:
        recipe: name or path.
        folder: where relative paths start from.

    Raises:
        RecipeError: if there is none; the message suggests what was probably meant.
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
        hint = f"; the one that comes with idemvox goes by its name alone: {path.stem}"
    else:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; {path.parent} has: {', '.join(near)}" if near else ""
    raise RecipeError(f"no recipe {path}{hint}")


def read_recipe(recipe: str | Path) -> tuple[dict[str, Any], list[Path]]:
    """Return the keys and values of a recipe laid over those of its base, that one's base, and so on.

    Returns:
        The values, not validated yet, and the files that they are from: the recipe's, its base's, ...

    Raises:
        RecipeError: if a file is missing or not YAML, or the bases lead back to a recipe before them.
    """
    file = find_recipe(recipe)
    files: list[Path] = []
    trees: list[dict[str, Any]] = []
    while True:
        if any(file.samefile(before) for before in files):
            circle = " -> ".join(map(str, [*files, file]))
            raise RecipeError(f"recipes that are each other's bases, {circle}: take 'base' out of one")
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
        values = _laid_over(tree, {key: value for key, value in values.items() if key not in _OWN})
    return values, files


def _read(file: Path) -> dict[str, Any]:
    """Return what one file holds."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise RecipeError(f"{file} is not a recipe: it should hold key: value pairs")
    return tree


def _laid_over(tree: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of ``base`` with those of ``tree`` in their place, key by key at every depth.

    Options of another framework, encoder or sampler (another ``name``) do not apply, and are left out.
    """
    values = dict(base)
    for key, value in tree.items():
        below = base.get(key)
        if isinstance(below, str):  # "framework: simclr" is short for a name
            below = {"name": below}
        if isinstance(value, dict) and isinstance(below, dict):
            same = value.get("name") in (None, below.get("name"))
            values[key] = _laid_over(value, below) if same else value
        else:
            values[key] = value
    return values
