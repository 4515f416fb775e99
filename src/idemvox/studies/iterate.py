"""Rounds of pseudo-labels: label a corpus, train a classifier on the labels, label again with that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from idemvox.corpus.manifest import load_manifest
from idemvox.devices import device_named
from idemvox.errors import RecipeError
from idemvox.files import read_json
from idemvox.model import load_model
from idemvox.pseudo.labelling import LabelOptions, label, save_labelled, sidecar
from idemvox.recipe import Part, Recipe
from idemvox.registry import FRAMEWORKS
from idemvox.studies.jobs import Job, TestSet, claim, eer_change, results_row, run_job
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.trials import load_trials

__all__ = ["Rounds", "Weights"]

Weights = Literal["start", "last", "none"]
CHANGE = "EER against the start"
"""The key of a row's paired difference to the model that labelled first, with its interval."""


@dataclass(frozen=True)
class Rounds:
    """Rounds of pseudo-labels in a folder; what is finished is not repeated.

    Each round has a folder ``round-R``, a run with the manifest ``pseudo.csv`` that it is trained on.

    Attributes:
        folder: folder of all rounds.
        recipe: recipe of a round, a supervised one; ``data.manifest`` is the corpus to label, and
            ``start_from`` the model that labels it first.
        labels: how to cluster.
        count: number of rounds.
        weights: what a round starts from: the weights of ``start`` (as LGL), those of the ``last`` round, or
            ``none``. The class vectors are always new.
        each: recipe key -> its values in the rounds, one for each.
        final: recipe of a last stage, such as one with a large margin. It continues the last round, class
            vectors included, on the same pseudo-speakers.
        tests: test sets to score every round on; they decide nothing.
    """

    folder: Path
    recipe: Recipe
    labels: LabelOptions
    count: int = 3
    weights: Weights = "start"
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    final: Recipe | None = None
    tests: tuple[TestSet, ...] = ()

    @property
    def start(self) -> Path:
        """The model that labels first.

        Raises:
            RecipeError: the recipe has none.
        """
        if self.recipe.start_from is None:
            raise RecipeError("who labels the corpus first? Set start_from=FOLDER to a run or a model folder")
        return self.recipe.start_from

    @property
    def corpus(self) -> Path:
        """The manifest to label.

        Raises:
            RecipeError: it is a pack, or there are several.
        """
        first, *others = self.recipe.data.corpora
        if others or first.is_dir():
            raise RecipeError(
                "rounds of pseudo-labels need one manifest, not a pack: join several with `idemvox prepare "
                "join`, and give the manifest that a pack was made from"
            )
        return first

    def run(self, console: Console, progress: bool = True) -> None:
        """Label and train all rounds that are missing; a killed run resumes.

        Raises:
            IdemvoxError: the recipe does not fit, or the folder holds other rounds.
        """
        self._check()
        for test in self.tests:  # fail now, not after a day of training
            trial_utterances(load_trials(test.trials), load_manifest(test.manifest))
        if self.tests and not (job := self.before()).done:
            run_job(job, progress)
        for number in range(1, self.count + 1):
            job, pseudo = self.round(number), self.pseudo(number)
            if not pseudo.is_file():
                console.print(f"round {number} of {self.count}: labelling {self.corpus}", highlight=False)
                self._label(number, progress)
            if not job.done:
                console.print(f"round {number} of {self.count}: training in {job.folder}", highlight=False)
                run_job(job, progress)
        if (last := self.last()) is not None and not last.done:
            console.print(f"last stage: training in {last.folder}", highlight=False)
            run_job(last, progress)

    def _check(self) -> None:
        recipes = [self.recipe, *([self.final] if self.final else [])]
        for recipe in recipes:
            if not FRAMEWORKS[recipe.framework.name].supervised or recipe.data.labels is not None:
                raise RecipeError(
                    f"{recipe.name} does not train on pseudo-speakers: choose a supervised recipe such as "
                    "supervised or lgl, without data.labels"
                )
        if wrong := [key for key, values in self.each.items() if len(values) != self.count]:
            raise RecipeError(f"{wrong[0]} needs one value, or one for each of the {self.count} rounds")
        for number in range(1, self.count + 1):
            recipe = self._recipe(number)
            recipe.framework.build(FRAMEWORKS[recipe.framework.name].Options, "framework")
        start = load_model(self.start).folder
        what = {
            "recipe": self.recipe.model_dump(mode="json"),
            "labels": asdict(self.labels),
            "rounds": self.count,
            "weights": self.weights,
            "each": dict(self.each),
            "final": self.final.model_dump(mode="json") if self.final else None,
        }
        files = [self.corpus, start / "model.safetensors"]
        files += [path for test in self.tests for path in (test.trials, test.manifest)]
        claim(self.folder / "rounds.json", what, files)

    def pseudo(self, number: int) -> Path:
        """Return the manifest of a round (from 1)."""
        return self.folder / f"round-{number}" / "pseudo.csv"

    def before(self) -> Job:
        """Return the job that scores the model that labels first."""
        model = load_model(self.start).folder
        described = read_json(model / "model.json")
        recipe = self.recipe.model_copy(
            update={
                "name": "start",
                "start_from": model,
                "encoder": Part(**described["encoder"]),
                "frontend": described["frontend"],
            }
        )
        return Job(self.folder / "start", recipe, self.tests, untrained=True)

    def round(self, number: int) -> Job:
        """Return the job of a round (from 1)."""
        return Job(self.folder / f"round-{number}", self._recipe(number), self.tests)

    def last(self) -> Job | None:
        """Return the job of the last stage, if there is one."""
        if self.final is None:
            return None
        values = [
            f"start_from={self.folder / f'round-{self.count}'}",
            f"data.manifest={self.pseudo(self.count)}",
        ]
        return Job(self.folder / "final", self.final.override(values), self.tests)

    def _recipe(self, number: int) -> Recipe:
        start = {"start": self.start, "last": self._labeller(number), "none": None}[self.weights]
        values = [f"{key}={values[number - 1]}" for key, values in self.each.items()]
        recipe = self.recipe.override(values)
        data = recipe.data.model_copy(update={"manifest": self.pseudo(number)})
        return recipe.model_copy(
            update={"name": f"{recipe.name}-round-{number}", "start_from": start, "data": data}
        )

    def _labeller(self, number: int) -> Path:
        """Return the model that labels for a round."""
        return self.start if number == 1 else self.folder / f"round-{number - 1}"

    def _label(self, number: int, progress: bool) -> None:
        device = device_named(self.recipe.training.device).type
        model, options = load_model(self._labeller(number)), replace(self.labels, seed=self.recipe.seed)
        found = label(model, load_manifest(self.corpus), options, device=device, progress=progress)
        save_labelled(found, self.pseudo(number))

    def rows(self) -> list[dict[str, Any]]:
        """Return the results: one row per round and test set, or one per round without tests."""
        stages: list[tuple[str, Job, int | None]] = [
            *([("start", self.before(), None)] if self.tests else []),
            *((f"round {number}", self.round(number), number) for number in range(1, self.count + 1)),
        ]
        if (last := self.last()) is not None:
            stages.append(("last stage", last, self.count))
        rows = []
        for name, job, number in stages:
            more = {} if number is None else _labels(sidecar(self.pseudo(number))) | _numbers(job)
            for test in self.tests:
                row = results_row(name, test, [job])
                if name != "start" and (change := eer_change(test, [self.before()], [job])):
                    row[CHANGE] = change
                rows.append(row | more)
            if not self.tests:
                rows.append({"system": name, **more})
        return rows


def _labels(file: Path) -> dict[str, Any]:
    """Return what a table shows of a round's labels."""
    about = read_json(file)
    return {name: about[name] for name in ("clusters", "utterances", "purity", "nmi") if name in about}


def _numbers(job: Job) -> dict[str, float]:
    """Return what a table shows of a round's training."""
    numbers = read_json(job.folder / "done.json")
    return {name: numbers[name] for name in ("loss", "kept", "corrected") if name in numbers}
