"""The study of the SSPS paper on any corpus: SimCLR or DINO, then three ways to go on for as many epochs.

``untrained`` is the floor; ``simclr`` goes on with positives from the same utterance; ``simclr-ssps`` with
pseudo-positives; ``simclr-supervised`` with positives by label, the upper bound.  Likewise with ``dino``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress

from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.experiment import Job, TestSet, claim, run_job
from idemvox.files import read_json
from idemvox.processes import process_pool
from idemvox.recipe import Recipe
from idemvox.training.gauges import progress_bar
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

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return len(self.seeds) * (self.base_epochs + 3 * self.more_epochs)

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
        with progress_bar(progress) as bar, process_pool(self.jobs) as pool:
            total = bar.add_task("training", total=self.plan.epochs, note="")
            self._all(pool, lambda: self._show(bar, total))

    def _claim(self) -> None:
        """Write down what this study is; more seeds are the same study."""
        plan = {key: value for key, value in asdict(self.plan).items() if key != "seeds"}
        files = [self.train]
        files += [path for test in self.tests for path in (test.trials, test.manifest)]
        claim(self.folder / "study.json", {"plan": plan}, files)

    def _all(self, pool: ProcessPoolExecutor, show: Callable[[], None]) -> None:
        waiting: dict[Future[None], tuple[str, int]] = {}

        def submit(system: str, seed: int) -> None:
            job = self._job(system, seed)
            if job.done:
                finished(system, seed)
            else:
                waiting[pool.submit(run_job, job)] = (system, seed)

        def finished(system: str, seed: int) -> None:
            if system == self.plan.base_name:
                same, ssps, supervised = self.plan.ways
                for after in (ssps, same, supervised):  # the longest first
                    submit(after, seed)

        for seed in self.plan.seeds:
            submit(self.plan.base_name, seed)
        for seed in self.plan.seeds:
            submit("untrained", seed)
        while waiting:
            done, _ = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                finished(*waiting.pop(future))
            show()

    def _show(self, bar: Progress, task: Any) -> None:
        """Add up the epochs of all runs from their logs."""
        epochs, running = 0.0, []
        for seed in self.plan.seeds:
            for system in (self.plan.base_name, *self.plan.ways):
                first = system == self.plan.base_name
                length = self.plan.base_epochs if first else self.plan.more_epochs
                before = 0 if first else self.plan.base_epochs
                last = _last_line(self.path(seed, system) / "log.jsonl")
                if (self.path(seed, system) / "done.json").is_file():
                    epochs += length
                elif last is not None:
                    epochs += min(max(last["at"] - before, 0), length)
                    running.append(f"{system} loss {last['loss']:.2f}")
        bar.update(task, completed=round(epochs, 1), note=", ".join(running))

    def rows(self) -> list[dict[str, Any]]:
        """Return the results: one row per system and test set, a value per seed."""
        rows = []
        for test in self.tests:
            for system in self.plan.systems:
                found = [read_json(self.path(s, system) / "evaluation.json") for s in self.plan.seeds]
                reports = [f["trials"][test.name] for f in found]
                row: dict[str, Any] = {"system": system, "trials": test.name}
                for key in ("eer", "mindcf_001", "mindcf_005", "eer_low", "eer_high"):
                    row[key] = [r[key] for r in reports]
                for key in ("coverage", "speaker_accuracy", "recording_accuracy"):
                    if key in found[0]["numbers"]:
                        row[key] = [f["numbers"][key] for f in found]
                rows.append(row)
        return rows

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


def _last_line(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    for line in reversed(lines):
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "at" in value and "loss" in value:
            found: dict[str, Any] = value
            return found
    return None
