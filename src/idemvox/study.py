"""The study of the SSPS paper on any corpus: SimCLR, then three ways to go on for the same number of epochs.

``untrained`` is the floor; ``simclr`` goes on with positives from the same utterance; ``simclr-ssps`` with
pseudo-positives; ``simclr-supervised`` with positives by label, the upper bound.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from rich.progress import Progress

from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.errors import IdemvoxError
from idemvox.files import read_json, write_json
from idemvox.model import build_encoder, load_model, save_model
from idemvox.processes import command_line, process_pool
from idemvox.recipe import Recipe
from idemvox.training.gauges import progress_bar
from idemvox.training.loop import train
from idemvox.verification.embed import embed_files, load_embeddings, save_embeddings
from idemvox.verification.report import evaluate, store_report, trial_utterances
from idemvox.verification.trials import Trials, load_trials, save_trials

__all__ = ["SYSTEMS", "Plan", "Study", "TestSet"]

SYSTEMS = ("untrained", "simclr", "simclr-ssps", "simclr-supervised")
BASE = "simclr-base"


@dataclass(frozen=True)
class Plan:
    """What is trained, and for how long.

    Attributes:
        base_epochs: of SimCLR, shared by the three ways to go on.
        more_epochs: of each way.
        seeds: one whole study each.
        base: recipe overrides (``key=value``) of every run.
        more: further overrides of the three ways to go on, such as ``training.lr=3e-4``.
        ssps: further overrides of the SSPS run, such as ``positives.clusters=300``.
    """

    base_epochs: int
    more_epochs: int
    seeds: tuple[int, ...] = (0,)
    base: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    ssps: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return len(self.seeds) * (self.base_epochs + 3 * self.more_epochs)

    def recipe(self, system: str, seed: int, manifest: Path, start: Path | None) -> Recipe:
        """Return the recipe of one run."""
        positives = {"simclr-ssps": "ssps", "simclr-supervised": "supervised"}.get(system, "same")
        epochs = self.base_epochs if system == BASE else self.more_epochs
        values = [
            f"name={system}",
            f"seed={seed}",
            f"data.manifest={manifest}",
            f"positives.name={positives}",
            f"training.epochs={epochs}",
            *([f"start_from={start}"] if start else []),
            *self.base,
            *(() if system == BASE else self.more),
            *(self.ssps if positives == "ssps" else ()),
        ]
        return Recipe().override(values)


@dataclass(frozen=True)
class TestSet:
    """A trial list with the manifest of its utterances."""

    __test__ = False  # not a test, whatever pytest thinks

    name: str
    trials: Path
    manifest: Path

    @classmethod
    def make(cls, trials: Trials, manifest: Path, folder: Path) -> TestSet:
        """Write made trials beside the study, so that anyone can look at them."""
        path = folder / f"{trials.name}.txt"
        save_trials(trials, path)
        return cls(trials.name, path, manifest)


@dataclass(frozen=True)
class _Task:
    system: str
    seed: int
    folder: Path
    recipe: Recipe
    tests: tuple[TestSet, ...]
    threads: int


def _work(task: _Task) -> None:
    """Train one system if it needs it, then embed and score every test set."""
    torch.set_num_threads(task.threads)
    if task.system == "untrained":
        torch.manual_seed(task.seed)
        encoder = build_encoder(task.recipe.encoder, task.recipe.frontend)
        save_model(
            task.folder / "model", encoder, task.recipe.encoder, task.recipe.frontend, {"recipe": "untrained"}
        )
        numbers: dict[str, float] = {}
    else:
        numbers = train(task.recipe, task.folder, resume=True, progress=False).numbers
    if task.system != BASE:
        _score(task, numbers)
    write_json(task.folder / "done.json", numbers)


def _score(task: _Task, numbers: Mapping[str, float]) -> None:
    model = load_model(task.folder / "model")
    precision: Literal["fp32", "bf16"] = "bf16" if task.recipe.training.precision == "bf16" else "fp32"
    results = {}
    for test in reversed(task.tests):  # the first one's report stays with the model
        trials, manifest = load_trials(test.trials), load_manifest(test.manifest)
        embeddings = embed_files(
            model.encoder, trial_utterances(trials, manifest), precision=precision, workers=1
        )
        save_embeddings(embeddings, task.folder / f"{test.name}.npz")
        report = evaluate(
            model.encoder,
            trials,
            manifest,
            embeddings=embeddings,
            model=model.provenance,
            precision=precision,
            command=command_line(),
        )
        store_report(model.folder, report)
        results[test.name] = json.loads(report.to_json())
    write_json(task.folder / "evaluation.json", {"numbers": dict(numbers), "trials": results})


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

    def _task(self, system: str, seed: int) -> _Task:
        start = None if system in (BASE, "untrained") else self.path(seed, BASE)
        lonely = system == BASE and len(self.plan.seeds) < self.jobs
        threads = max(1, self.jobs // len(self.plan.seeds)) if lonely else 1
        recipe = self.plan.recipe(system, seed, self.train, start)
        return _Task(system, seed, self.path(seed, system), recipe, tuple(self.tests), threads)

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
        """Write down what this study is, or refuse the folder of another; more seeds are the same study."""
        files = [self.train]
        files += [path for test in self.tests for path in (test.trials, test.manifest)]
        plan = {key: value for key, value in asdict(self.plan).items() if key != "seeds"}
        mine = {
            "plan": json.loads(json.dumps(plan)),
            "files": [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
        }
        claim = self.folder / "study.json"
        if not claim.is_file():
            write_json(claim, mine)
        elif read_json(claim) != mine:
            raise IdemvoxError(
                f"{self.folder} holds a study of other data or with other settings; "
                "delete that folder, or choose another --out"
            )

    def _all(self, pool: ProcessPoolExecutor, show: Callable[[], None]) -> None:
        waiting: dict[Future[None], tuple[str, int]] = {}

        def submit(system: str, seed: int) -> None:
            task = self._task(system, seed)
            if (task.folder / "done.json").is_file():
                finished(system, seed)
            else:
                waiting[pool.submit(_work, task)] = (system, seed)

        def finished(system: str, seed: int) -> None:
            if system == BASE:
                for after in ("simclr-ssps", "simclr", "simclr-supervised"):  # the longest first
                    submit(after, seed)

        for seed in self.plan.seeds:
            submit(BASE, seed)
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
            for system in (BASE, *SYSTEMS[1:]):
                length = self.plan.base_epochs if system == BASE else self.plan.more_epochs
                before = 0 if system == BASE else self.plan.base_epochs
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
            for system in SYSTEMS:
                found = [read_json(self.path(s, system) / "evaluation.json") for s in self.plan.seeds]
                reports = [f["trials"][test.name] for f in found]
                row: dict[str, Any] = {"system": system, "trials": test.name}
                for key in ("eer", "mindcf_001", "mindcf_005", "eer_low", "eer_high"):
                    row[key] = [r[key] for r in reports]
                for key in ("coverage", "speaker_accuracy", "recording_accuracy"):
                    if system == "simclr-ssps" and key in found[0]["numbers"]:
                        row[key] = [f["numbers"][key] for f in found]
                rows.append(row)
        return rows

    def panels(self, test: TestSet, seed: int, speakers: int = 10) -> list[tuple[str, Any, Any, Any]]:
        """Return what a picture shows: the same utterances of some speakers before and after SSPS."""
        who: Manifest = load_manifest(test.manifest)
        some = set(who.speakers[:: max(1, len(who.speakers) // speakers)][:speakers])
        panels = []
        for system in ("simclr", "simclr-ssps"):
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
