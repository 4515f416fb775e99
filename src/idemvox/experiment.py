"""Train a recipe and score what comes out: one job of a study or a sweep."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.files import read_json, write_json
from idemvox.model import build_encoder, load_model, save_model
from idemvox.processes import command_line
from idemvox.recipe import Recipe
from idemvox.training.loop import train
from idemvox.verification.embed import embed_files, save_embeddings
from idemvox.verification.report import evaluate, store_report, trial_utterances
from idemvox.verification.trials import Trials, load_trials, save_trials

__all__ = ["Job", "TestSet", "claim", "run_job"]


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
class Job:
    """A run of a recipe and what it is scored on.

    Attributes:
        folder: of the run; ``done.json`` in it says that all is done, ``evaluation.json`` holds the scores.
        recipe: what to train.
        tests: none for a run that others only start from.
        untrained: leave the weights as they are drawn.
        threads: PyTorch's; ``None``: as many as it takes by itself.
    """

    folder: Path
    recipe: Recipe
    tests: tuple[TestSet, ...]
    untrained: bool = False
    threads: int | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.folder / "done.json").is_file()


def run_job(job: Job, progress: bool = False) -> None:
    """Train one system if it needs it, then embed and score every test set."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    numbers: dict[str, float] = {}
    if job.untrained:
        torch.manual_seed(job.recipe.seed)
        encoder = build_encoder(job.recipe.encoder, job.recipe.frontend)
        save_model(
            job.folder / "model", encoder, job.recipe.encoder, job.recipe.frontend, {"recipe": "untrained"}
        )
    else:
        numbers = train(job.recipe, job.folder, resume=True, progress=progress).numbers
    if job.tests:
        _score(job, numbers, progress)
    write_json(job.folder / "done.json", numbers)


def _score(job: Job, numbers: Mapping[str, float], progress: bool) -> None:
    model = load_model(job.folder / "model")
    precision: Literal["fp32", "bf16"] = "bf16" if job.recipe.training.precision == "bf16" else "fp32"
    device = "cuda" if torch.cuda.is_available() and job.recipe.training.device != "cpu" else "cpu"
    results = {}
    for test in reversed(job.tests):  # the first one's report stays with the model
        trials, manifest = load_trials(test.trials), load_manifest(test.manifest)
        embeddings = embed_files(
            model.encoder,
            trial_utterances(trials, manifest),
            device=device,
            precision=precision,
            workers=1,
            progress=progress,
        )
        save_embeddings(embeddings, job.folder / f"{test.name}.npz")
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
    write_json(job.folder / "evaluation.json", {"numbers": dict(numbers), "trials": results})


def claim(file: Path, what: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Write down what a folder is for, or refuse the folder of something else.

    Args:
        file: in that folder.
        what: plain values that make it what it is.
        files: whose contents do too.
    """
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    mine = json.loads(json.dumps({**what, "files": hashes}))
    if not file.is_file():
        write_json(file, mine)
    elif read_json(file) != mine:
        raise IdemvoxError(
            f"{file.parent} holds a study of other data or with other settings; "
            "delete that folder, or choose another --out"
        )
