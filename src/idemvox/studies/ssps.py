"""The study of the SSPS paper on any corpus: SimCLR or DINO, then three ways to go on for as many epochs.

``untrained`` is the floor; ``simclr`` goes on with positives from the same utterance; ``simclr-ssps`` with
pseudo-positives; ``simclr-supervised`` with positives by label, the upper bound. Likewise with ``dino``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.recipe import Recipe
from idemvox.studies.jobs import Job, TestSet, claim, results_row, run_jobs
from idemvox.verification.embed import load_embeddings

__all__ = ["Plan", "Study"]


@dataclass(frozen=True)
class Plan:
    """What is trained, and for how long.

    Attributes:
        base_epochs: of what the three ways to go on share.
        more_epochs: of each way.
        seeds: one whole study each.
        base: recipe overrides (``key=value``) of every run.
        more: further overrides of the three ways to go on, such as ``training.lr=3e-4``.
        ssps: further overrides of the SSPS run, such as ``positives.clusters=300``.
        framework: ``simclr`` or ``dino``.
    """

    base_epochs: int
    more_epochs: int
    seeds: tuple[int, ...] = (0,)
    base: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    ssps: tuple[str, ...] = ()
    framework: str = "simclr"

    @property
    def base_name(self) -> str:
        """Name of the run that the others share."""
        return f"{self.framework}-base"

    @property
    def ways(self) -> tuple[str, str, str]:
        """Names of the three ways to go on: as before, with SSPS, with labels."""
        return self.framework, f"{self.framework}-ssps", f"{self.framework}-supervised"

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of all that is scored."""
        return "untrained", *self.ways

    def recipe(self, system: str, seed: int, manifest: Path, start: Path | None) -> Recipe:
        """Return the recipe of one run."""
        _, ssps, supervised = self.ways
        positives = {ssps: "ssps", supervised: "supervised"}.get(system, "same")
        epochs = self.base_epochs if system == self.base_name else self.more_epochs
        values = [
            f"name={system}",
            f"seed={seed}",
            f"data.manifest={manifest}",
            f"framework.name={self.framework}",
            f"positives.name={positives}",
            f"training.epochs={epochs}",
            *([f"start_from={start}"] if start else []),
            *self.base,
            *(() if system == self.base_name else self.more),
            *(self.ssps if positives == "ssps" else ()),
        ]
        return Recipe().override(values)


@dataclass
class Study:
    """A study in a folder; what is there already is not done again.

    Attributes:
        folder: of the study; ``seed-S/SYSTEM`` holds each run.
        train: manifest to learn from; only the supervised runs read its labels.
        tests: where it is scored; the first one is the main one.
        plan: what is trained.
        jobs: processes at a time; one thread each is what two cores do best.
    """

    folder: Path
    train: Path
    tests: Sequence[TestSet]
    plan: Plan
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)

    def path(self, seed: int, system: str) -> Path:
        """Return the folder of a run."""
        return self.folder / f"seed-{seed}" / system

    def _job(self, system: str, seed: int) -> Job:
        base = self.plan.base_name
        start = None if system in (base, "untrained") else self.path(seed, base)
        lonely = system == base and len(self.plan.seeds) < self.jobs
        threads = max(1, self.jobs // len(self.plan.seeds)) if lonely else 1
        recipe = self.plan.recipe(system, seed, self.train, start)
        tests = () if system == base else tuple(self.tests)
        return Job(self.path(seed, system), recipe, tests, system == "untrained", threads)

    def run(self, progress: bool = True) -> None:
        """Train and score whatever is missing; a killed study goes on where it was.

        Raises:
            IdemvoxError: if the folder holds a study of other data or with another plan.
        """
        self._claim()
        first = [
            self._job(name, seed) for name in (self.plan.base_name, "untrained") for seed in self.plan.seeds
        ]
        same, ssps, supervised = self.plan.ways
        after = [self._job(way, seed) for seed in self.plan.seeds for way in (ssps, same, supervised)]
        run_jobs([*first, *after], self.jobs, progress)  # of those that start alike, the longest first

    def _claim(self) -> None:
        """Write down what this study is; more seeds are the same study."""
        plan = {key: value for key, value in asdict(self.plan).items() if key != "seeds"}
        files = [self.train]
        files += [path for test in self.tests for path in (test.trials, test.manifest)]
        claim(self.folder / "study.json", {"plan": plan}, files)

    def rows(self) -> list[dict[str, Any]]:
        """Return the results: one row per system and test set, a value per seed."""
        return [
            results_row(system, test, [self._job(system, seed) for seed in self.plan.seeds])
            for test in self.tests
            for system in self.plan.systems
        ]

    def panels(self, test: TestSet, seed: int, speakers: int = 10) -> list[tuple[str, Any, Any, Any]]:
        """Return what a picture shows: the same utterances of some speakers before and after SSPS."""
        who: Manifest = load_manifest(test.manifest)
        some = set(who.speakers[:: max(1, len(who.speakers) // speakers)][:speakers])
        panels = []
        for system in self.plan.ways[:2]:
            found = load_embeddings(self.path(seed, system) / f"{test.name}.npz")
            rows = [i for i, name in enumerate(found.ids) if who.by_id[name].speaker in some]
            utterances = [who.by_id[found.ids[i]] for i in rows]
            panels.append(
                (
                    system,
                    found.matrix[rows],
                    [u.speaker for u in utterances],
                    [u.recording for u in utterances],
                )
            )
        return panels
