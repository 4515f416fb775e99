"""Jobs of a study or a sweep: train recipes and score the models, several at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from idemvox.corpus.manifest import load_manifest
from idemvox.errors import RunError
from idemvox.files import file_hash, read_json, write_json
from idemvox.model import build_encoder, load_model, save_model
from idemvox.processes import command_line, process_pool
from idemvox.progress import progress_bar
from idemvox.recipe import Recipe
from idemvox.training.loop import train
from idemvox.training.watch.curves import read_log
from idemvox.verification.comparison import eer_difference
from idemvox.verification.embed import embed_files, load_embeddings, save_embeddings
from idemvox.verification.evaluation import (
    evaluate_embeddings,
    score_embeddings,
    trial_utterances,
)
from idemvox.verification.report import store_report
from idemvox.verification.trials import Trials, load_trials, save_trials

__all__ = ["Job", "TestSet", "claim", "eer_change", "results_row", "run_job", "run_jobs"]

_SCORES = ("eer", "mindcf_001", "mindcf_005", "eer_low", "eer_high")
_LOGGED = ("coverage", "speaker_accuracy", "recording_accuracy")


@dataclass(frozen=True)
class TestSet:
    """A trial list with the manifest of its utterances."""

    __test__ = False  # tells pytest that this is not a test

    name: str
    trials: Path
    manifest: Path

    @classmethod
    def make(cls, trials: Trials, manifest: Path, folder: Path) -> TestSet:
        """Write trials into the study's folder, where they can be inspected."""
        path = folder / f"{trials.name}.txt"
        save_trials(trials, path)
        return cls(trials.name, path, manifest)


@dataclass(frozen=True)
class Job:
    """A run of a recipe, and the test sets to score it on.

    Attributes:
        folder: run folder; ``done.json`` in it marks a finished job, ``evaluation.json`` holds the scores.
        recipe: the recipe to train.
        tests: test sets; none for a run that other runs only start from.
        untrained: keep the initial weights, those of ``recipe.start_from`` if it names a model folder.
        threads: number of PyTorch threads; ``None`` for PyTorch's default.
    """

    folder: Path
    recipe: Recipe
    tests: tuple[TestSet, ...]
    untrained: bool = False
    threads: int | None = None

    @property
    def done(self) -> bool:
        """Whether the job is finished."""
        return (self.folder / "done.json").is_file()

    @property
    def epochs(self) -> int:
        """Number of epochs to train."""
        return 0 if self.untrained else self.recipe.training.epochs

    def so_far(self) -> tuple[float, str]:
        """Return the number of finished epochs, and a note on the job if it is running."""
        if self.done:
            return self.epochs, ""
        events = [event for event in read_log(self.folder / "log.jsonl") if "at" in event]
        if not events:
            return 0, ""
        begun = math.ceil(events[0]["at"]) - 1  # epochs of the weights that it starts from
        loss = next((f" loss {event['loss']:.2f}" for event in reversed(events) if "loss" in event), "")
        return min(events[-1]["at"] - begun, self.epochs), self.recipe.name + loss


def run_job(job: Job, progress: bool = False) -> None:
    """Train one system unless it is untrained, then embed and score every test set."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    numbers: dict[str, float] = {}
    if job.untrained:
        _keep_initial(job)
    else:
        numbers = train(job.recipe, job.folder, resume=True, progress=progress).numbers
    if job.tests:
        _score(job, numbers, progress)
    write_json(job.folder / "done.json", numbers)


def _keep_initial(job: Job) -> None:
    """Write the model folder of a job that does not train."""
    start, recipe = job.recipe.start_from, job.recipe
    if start is None:
        torch.manual_seed(recipe.seed)
        encoder, provenance = build_encoder(recipe.encoder, recipe.frontend), {"recipe": "untrained"}
    else:
        given = load_model(start)
        encoder, provenance = given.network, given.provenance
    folder = job.folder / "model"
    save_model(folder, encoder, recipe.encoder, recipe.frontend, provenance, scoring="cosine")


def run_jobs(jobs: Sequence[Job], workers: int, progress: bool = True) -> None:
    """Run the unfinished jobs, each after the job that its recipe starts from.

    Args:
        jobs: the most urgent first.
        workers: jobs at a time, each in its own process.
        progress: show a bar of all jobs' epochs.
    """
    waiting = [job for job in jobs if not job.done]
    due = {job.folder for job in waiting}
    running: dict[Future[None], Job] = {}
    with progress_bar(progress) as bar, process_pool(workers) as pool:
        task = bar.add_task("training", total=sum(job.epochs for job in jobs), note="")
        while True:
            ready = [job for job in waiting if job.recipe.start_from not in due][: workers - len(running)]
            waiting = [job for job in waiting if job not in ready]
            running |= {pool.submit(run_job, job): job for job in ready}
            states = [job.so_far() for job in jobs]
            note = ", ".join(text for _, text in states if text)
            bar.update(task, completed=round(sum(epochs for epochs, _ in states), 1), note=note)
            if not running:
                return
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
                due.remove(running.pop(future).folder)


def _score(job: Job, numbers: Mapping[str, float], progress: bool) -> None:
    model = load_model(job.folder / "model")
    precision: Literal["fp32", "bf16"] = "bf16" if job.recipe.training.precision == "bf16" else "fp32"
    device = "cuda" if torch.cuda.is_available() and job.recipe.training.device != "cpu" else "cpu"
    results = {}
    for test in reversed(job.tests):  # the first one's report stays with the model
        trials, manifest = load_trials(test.trials), load_manifest(test.manifest)
        utterances = trial_utterances(trials, manifest)
        embeddings = embed_files(
            model.encoder,
            utterances,
            device=device,
            precision=precision,
            workers=min(4, max(1, (os.cpu_count() or 1) // 4)),
            progress=progress,
        )
        save_embeddings(embeddings, job.folder / f"{test.name}.npz")
        report = evaluate_embeddings(model, embeddings, trials, utterances, command=command_line())
        store_report(model.folder, report)
        results[test.name] = json.loads(report.to_json())
    write_json(job.folder / "evaluation.json", {"numbers": dict(numbers), "trials": results})


def results_row(system: str, test: TestSet, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return a row of results: the scores of a system's jobs, one per seed, on a test set."""
    results = [read_json(job.folder / "evaluation.json") for job in jobs]
    row: dict[str, Any] = {"system": system, "trials": test.name}
    row |= {key: [r["trials"][test.name][key] for r in results] for key in _SCORES}
    row |= {key: [r["numbers"][key] for r in results] for key in _LOGGED if key in results[0]["numbers"]}
    known = results[0]["trials"][test.name]["model"].get("known", ())
    return row | ({"known": ", ".join(known)} if known else {})


def eer_change(test: TestSet, base: Sequence[Job], jobs: Sequence[Job]) -> str | None:
    """Return the difference of EERs to another system's jobs, with its interval, in words.

    Both systems are scored on the same draws of speakers, means over their seeds; ``None`` if the speakers of
    the test set are not all known.
    """
    trials = load_trials(test.trials)
    utterances = trial_utterances(trials, load_manifest(test.manifest))
    a, b = (
        [
            score_embeddings(
                load_model(job.folder / "model"),
                load_embeddings(job.folder / f"{test.name}.npz"),
                trials,
                utterances,
            )
            for job in system
        ]
        for system in (base, jobs)
    )
    if (sides := a[0].sides) is None:
        return None
    return str(eer_difference([s.scores for s in a], [s.scores for s in b], trials.labels, *sides))


def claim(file: Path, what: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Record what a folder is for, or raise an error if it is used for something else.

    Args:
        file: JSON file in that folder, which holds the record.
        what: plain values that define its purpose.
        files: files whose contents belong to the definition.
    """
    hashes = [file_hash(path) for path in files]
    mine = json.loads(json.dumps({**what, "files": hashes}))
    if not file.is_file():
        write_json(file, mine)
    elif read_json(file) != mine:
        raise RunError(
            f"{file.parent} holds a study of other data or with other settings; "
            "delete that folder, or choose another --out"
        )
