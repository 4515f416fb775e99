"""The study of the SSPS paper on any corpus: SimCLR or DINO, then several ways to continue training.

``untrained`` is the lower bound. ``simclr`` continues with positives from the same utterance, ``simclr-ssps``
with pseudo-positives, ``simclr-ssps-recordings`` with pseudo-positives from other recordings (which recording
an utterance was cut from is then known), ``simclr-supervised`` with positives by label, the upper bound. All
train for the same number of epochs. With ``dino`` it is the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.recipe import Recipe
from idemvox.studies.jobs import Job, TestSet, claim, eer_change, results_row, run_jobs
from idemvox.verification.embed import load_embeddings

__all__ = ["Plan", "Study"]


@dataclass(frozen=True)
class Plan:
    """The training runs of the study.

    Attributes:
        base_epochs: epochs of the base run that the others continue.
        more_epochs: further epochs of each of the others.
        seeds: one complete study each.
        base: recipe overrides (``key=value``) of all runs.
        more: further overrides of the runs after the base, such as ``training.lr=3e-4``.
        ssps: further overrides of the SSPS run, such as ``positives.clusters=300``.
        framework: ``simclr`` or ``dino``.
        recordings: further overrides of the SSPS run with recordings known; if empty, it is left out.
        start: a trained model folder that the runs continue, instead of a base run.
    """

    base_epochs: int
    more_epochs: int
    seeds: tuple[int, ...] = (0,)
    base: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    ssps: tuple[str, ...] = ()
    framework: str = "simclr"
    recordings: tuple[str, ...] = ()
    start: Path | None = None

    @property
    def base_name(self) -> str:
        """Name of the base run that the others continue."""
        return f"{self.framework}-base"

    @property
    def positives(self) -> dict[str, tuple[str, ...]]:
        """Name of each run that continues the base -> overrides of its positives, the control first."""
        name = self.framework
        found = {name: ("positives.name=same",), f"{name}-ssps": ("positives.name=ssps", *self.ssps)}
        if self.recordings:
            found[f"{name}-ssps-recordings"] = ("positives.name=ssps", *self.recordings)
        return found | {f"{name}-supervised": ("positives.name=supervised",)}

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of all systems that are scored."""
        return "untrained", self.base_name, *self.positives

    def recipe(self, system: str, seed: int, manifest: Path, start: Path | None) -> Recipe:
        """Return the recipe of one run."""
        epochs = self.base_epochs if system == self.base_name else self.more_epochs
        values = [
            f"name={system}",
            f"seed={seed}",
            f"data.manifest={manifest}",
            f"framework.name={self.framework}",
            f"training.epochs={epochs}",
            *([f"start_from={start}"] if start else []),
            *self.base,
            *(() if system == self.base_name else self.more),
            *self.positives.get(system, ()),
        ]
        return Recipe().override(values)


@dataclass
class Study:
    """A study in a folder; finished runs are not repeated.

    Attributes:
        folder: folder of the study; each run is in ``seed-S/SYSTEM``.
        train: training manifest; only the supervised runs read its labels.
        tests: test sets; the first is the main one.
        plan: the training runs.
        jobs: processes at a time, by default one per core, with one thread each.
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
        base, given = self.plan.base_name, self.plan.start
        start = None if system == "untrained" else given
        if start is None and system not in (base, "untrained"):
            start = self.path(seed, base)
        spare = system == base and len(self.plan.seeds) < self.jobs  # fewer jobs than processes
        threads = max(1, self.jobs // len(self.plan.seeds)) if spare else 1
        recipe = self.plan.recipe(system, seed, self.train, start)
        keep = system == "untrained" or (system == base and given is not None)
        return Job(self.path(seed, system), recipe, tuple(self.tests), keep, threads)

    def run(self, progress: bool = True) -> None:
        """Train and score all runs that are missing; a killed study resumes.

        Raises:
            RunError: the folder holds a study of other data or with another plan.
        """
        self._claim()
        first = [
            self._job(name, seed) for name in (self.plan.base_name, "untrained") for seed in self.plan.seeds
        ]
        ways = sorted(self.plan.positives, key=lambda way: "ssps" not in way)  # the longest first
        after = [self._job(way, seed) for seed in self.plan.seeds for way in ways]
        run_jobs([*first, *after], self.jobs, progress)

    def _claim(self) -> None:
        """Record the definition of this study; the seeds are not part of it."""
        plan = {key: value for key, value in asdict(self.plan).items() if key not in ("seeds", "start")}
        files = [self.train, *([self.plan.start / "model.safetensors"] if self.plan.start else [])]
        files += [path for test in self.tests for path in (test.trials, test.manifest)]
        claim(self.folder / "study.json", {"plan": plan}, files)

    def rows(self) -> list[dict[str, Any]]:
        """Return the results: one row per system and test set, with a value per seed.

        If speakers are known, the rows of the runs with other positives hold the paired difference to the run
        that continued unchanged.
        """
        jobs = {system: [self._job(system, seed) for seed in self.plan.seeds] for system in self.plan.systems}
        unchanged, *others = self.plan.positives
        rows = []
        for test in self.tests:
            for system in self.plan.systems:
                row = results_row(system, test, jobs[system])
                if system in others and (change := eer_change(test, jobs[unchanged], jobs[system])):
                    row[f"EER against {unchanged}"] = change
                rows.append(row)
        return rows

    def panels(self, test: TestSet, seed: int, speakers: int = 10) -> list[tuple[str, Any, Any, Any]]:
        """Return picture panels with the same utterances of some speakers, one per system without labels."""
        manifest: Manifest = load_manifest(test.manifest)
        chosen = set(manifest.speakers[:: max(1, len(manifest.speakers) // speakers)][:speakers])
        panels = []
        for system in list(self.plan.positives)[:-1]:
            embeddings = load_embeddings(self.path(seed, system) / f"{test.name}.npz")
            rows = [i for i, name in enumerate(embeddings.ids) if manifest.by_id[name].speaker in chosen]
            utterances = [manifest.by_id[embeddings.ids[i]] for i in rows]
            panels.append(
                (
                    system,
                    embeddings.matrix[rows],
                    [u.speaker for u in utterances],
                    [u.recording for u in utterances],
                )
            )
        return panels
