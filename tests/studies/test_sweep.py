"""Combinations of settings, and the runs that they become."""

from __future__ import annotations

from pathlib import Path

from idemvox.recipe import Recipe
from idemvox.studies.sweep import Sweep, read_grid


def test_values_that_are_lists_or_mappings():
    speeds = "augment.speeds=[0.9, 1.0, 1.1],[1.0]"
    positives = "positives={name: ssps, clusters: 6},{name: same}"
    plain, grid = read_grid(["training.lr=0.1", speeds, positives])
    assert plain == ["training.lr=0.1"]
    sweep = Sweep(Path("x"), Recipe().override(plain), grid, ())
    recipes = [sweep.job(point, 3).recipe for point in sweep.points()]
    assert [(r.augment.speeds, r.positives.name) for r in recipes] == [
        ((0.9, 1.0, 1.1), "ssps"),
        ((0.9, 1.0, 1.1), "same"),
        ((1.0,), "ssps"),
        ((1.0,), "same"),
    ]
    assert all((r.seed, r.training.lr) == (3, 0.1) for r in recipes)
    assert len({sweep.job(point, 3).folder for point in sweep.points()}) == 4
