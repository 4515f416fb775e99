"""Train and score a recipe with all combinations of some settings, such as Table 2 of the SSPS paper."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from idemvox.corpus.manifest import load_manifest
from idemvox.errors import RecipeError
from idemvox.recipe import Part, Recipe
from idemvox.registry import ENCODERS, FRAMEWORKS, POSITIVES
from idemvox.studies.jobs import Job, TestSet, claim, eer_change, results_row, run_job, run_jobs
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.trials import load_trials

__all__ = ["CHANGE", "Sweep", "read_grid"]

CHANGE = "EER against the first"
"""The key of a row's paired difference to the first combination, with its interval."""


def read_grid(assignments: Sequence[str]) -> tuple[list[str], dict[str, list[Any]]]:
    """Separate overrides with one value from those with several.

    >>> read_grid(["seed=3", "positives.clusters=10,20", "augment.speeds=[0.9, 1.0]"])
    (['seed=3', 'augment.speeds=[0.9, 1.0]'], {'positives.clusters': [10, 20]})
    """
    plain, grid = [], {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        try:
            values = yaml.safe_load(f"[{text}]") if equals else []
        except yaml.YAMLError:
            values = []
        if len(values) > 1:
            grid[key] = values
        else:
            plain.append(assignment)
    return plain, grid


def _in_yaml(value: Any) -> str:
    """Return a value as one line of YAML."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=math.inf).splitlines()[0])


@dataclass(frozen=True)
class Sweep:
    """A grid of runs in a folder; finished runs are not repeated.

    Attributes:
        folder: folder of the sweep; each run is in ``SETTINGS/seed-S``.
        recipe: the settings that all runs share.
        grid: recipe key -> its values.
        tests: test sets to score each run on.
        seeds: seeds of each combination.
        jobs: runs at a time; if more than one, in processes with one thread each.
    """

    folder: Path
    recipe: Recipe
    grid: Mapping[str, Sequence[Any]]
    tests: tuple[TestSet, ...]
    seeds: tuple[int, ...] = (0,)
    jobs: int = 1

    def points(self) -> list[dict[str, Any]]:
        """Return the combinations; the last key varies fastest."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]

    def job(self, point: Mapping[str, Any], seed: int) -> Job:
        """Return the job of one combination and seed."""
        name = "_".join(f"{key.rpartition('.')[2]}-{value}" for key, value in point.items())
        folder = self.folder / re.sub(r"[^\w.=-]+", "-", name) / f"seed-{seed}"
        values = [f"{key}={_in_yaml(value)}" for key, value in point.items()]
        recipe = self.recipe.override(values).model_copy(update={"seed": seed, "name": name})
        return Job(folder, recipe, self.tests, threads=1 if self.jobs > 1 else None)

    def run(self, console: Console, progress: bool = True) -> None:
        """Train and score all runs that are missing; a killed sweep resumes.

        Raises:
            IdemvoxError: a combination is not a valid recipe (checked before any training), or the folder
                holds another sweep.
        """
        if taken := {"seed", "name"} & set(self.grid):
            raise RecipeError(f"a sweep gives each run its own {taken.pop()}; for several seeds use --seeds")
        jobs = [self.job(point, seed) for seed in self.seeds for point in self.points()]
        if len({test.name for test in self.tests}) < len(self.tests):
            raise RecipeError("two trial lists of this sweep have the same name; rename one of the files")
        for test in self.tests:  # fail now, not after a day of training
            trial_utterances(load_trials(test.trials), load_manifest(test.manifest))
        for job in jobs:
            for key, registry in (("encoder", ENCODERS), ("framework", FRAMEWORKS), ("positives", POSITIVES)):
                part: Part = getattr(job.recipe, key)
                part.build(registry[part.name].Options, key)
        if len({job.folder for job in jobs}) < len(jobs):
            raise RecipeError("two combinations of this sweep are the same; give each value once")
        files = [path for test in self.tests for path in (test.trials, test.manifest)]
        common = self.recipe.model_dump(mode="json", exclude={"seed", "name"})
        claim(self.folder / "settings.json", {"recipe": common}, files)
        unfinished = [job for job in jobs if not job.done]
        if self.jobs == 1:
            for number, job in enumerate(unfinished, len(jobs) - len(unfinished) + 1):
                console.print(f"{number} of {len(jobs)}: {job.folder}", highlight=False)
                run_job(job, progress)
            return
        run_jobs(jobs, self.jobs, progress)

    def rows(self) -> list[dict[str, Any]]:
        """Return the results: one row per combination and test set, with a value per seed.

        If speakers are known, each row but the first of a test set has :data:`CHANGE`.
        """
        rows = []
        for test in self.tests:
            first, *others = self.points()
            base = self._jobs(first)
            rows.append(results_row(_in_words(first), test, base))
            for point in others:
                jobs = self._jobs(point)
                row = results_row(_in_words(point), test, jobs)
                if change := eer_change(test, base, jobs):
                    row[CHANGE] = change
                rows.append(row)
        return rows

    def _jobs(self, point: Mapping[str, Any]) -> list[Job]:
        """Return the jobs of one combination, one per seed."""
        return [self.job(point, seed) for seed in self.seeds]


def _in_words(point: Mapping[str, Any]) -> str:
    """Return a combination in words, such as ``clusters 6000, neighbours 1``."""
    return ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in point.items())
