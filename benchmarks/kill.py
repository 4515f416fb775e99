"""Does training resume bit for bit after kill -9? SimCLR, DINO and CEL with SSPS, killed at random moments.

    python benchmarks/kill.py [--kills 10] [--quick]

Each framework is first trained without interruption on synthetic voices: 3 epochs of 6 steps, each after a
pass that fills the queues and k-means. Then the training is repeated until it has been killed the given
number of times: by SIGKILL, at a moment drawn uniformly from the duration of the uninterrupted run. It is
then resumed (`--resume`); every other run is killed a second time after resuming. Checkpoints are written
after every second step and every second batch of the pass (`training.save_steps: 2`).

Everything that the runs leave is compared bit for bit: the tensors and numbers of the last checkpoint
(weights, teacher, batch statistics, optimiser, both queues, cluster assignments, the sampler's position), the
model folder's weights, and every line of the log and of the learning curves, except for values read from the
clock. A line that is missing or repeated counts as a difference too.

Writes docs/results/kill.{md,json}.
"""

from __future__ import annotations

import csv
import itertools
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file

from common import measuring, publish
from idemvox.corpus.simulated.voices import synthetic_voices
from idemvox.recipe import Recipe
from idemvox.registry import ENCODERS, FRAMEWORKS
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint

CLOCK = ("time", "utterances_per_second", "waiting_for_audio")
KILLED = ("simclr", "dino", "cel")


def recipe_of(framework: str, manifest: Path) -> Recipe:
    """Return a run of a few seconds."""
    encoder = {"name": "fast_resnet34", **ENCODERS["fast_resnet34"].tiny}
    options = {"name": framework, **FRAMEWORKS[framework].tiny}
    return Recipe().override(
        [
            f"name={framework}-ssps",
            f"data.manifest={manifest}",
            "frontend.mels=20",
            f"encoder={json.dumps(encoder)}",
            f"framework={json.dumps(options)}",
            "positives={name: ssps, clusters: 12, queue: 30, seconds: 0.8, refresh: true}",
            "augment.simulated_rooms=4",
            "training={epochs: 3, batch: 8, workers: 1, device: cpu, save_steps: 2}",
        ]
    )


def attempt(recipe: Recipe, folder: Path) -> None:
    """Train, resuming what is there; runs in a process of its own."""
    torch.set_num_threads(1)
    train(recipe, folder, resume=True, progress=False)


def run(recipe: Recipe, folder: Path, seconds: float | None = None) -> bool:
    """Train in a process of its own, or kill it after a time; return whether it finished."""
    process = multiprocessing.get_context("forkserver").Process(target=attempt, args=(recipe, folder))
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    elif process.exitcode:
        sys.exit(f"training {recipe.name} failed")
    return not alive


def left(folder: Path) -> dict[str, Any]:
    """Return everything that a run has left, by name."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {
        "checkpoint": load_checkpoint(last_checkpoint(folder / "checkpoints")),
        "model": load_file(folder / "model" / "model.safetensors"),
        "log": [line for line in lines if line["event"] in ("step", "epoch")],
        "curves": list(csv.DictReader((folder / "curves.csv").open(encoding="utf-8"))),
    }
    return dict(leaves(found))


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the tensors and values of a tree with their names, except those read from the clock."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if key not in CLOCK:
                yield from leaves(value, f"{name}.{key}")
    else:
        yield name, tree


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of values that differ in any bit, or that only one run has."""

    def bits(found: dict[str, Any], name: str) -> Any:
        value = found.get(name, "missing")
        return (value.dtype, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else repr(value)

    return sorted(name for name in one.keys() | other.keys() if bits(one, name) != bits(other, name))


def newest(folder: Path) -> str:
    """Return where a killed run resumes: from nothing, or after an epoch, some fill batches or some steps."""
    path = last_checkpoint(folder / "checkpoints")
    if path is None:
        return "nothing"
    return next((part for part in ("fill", "step") if part in path.stem), "epoch")


def trial(framework: str, manifest: Path, scratch: Path, kills: int) -> dict[str, Any]:
    """Train uninterrupted and killed; return the row of a framework."""
    recipe = recipe_of(framework, manifest)
    began = time.perf_counter()
    run(recipe, scratch / recipe.name / "whole")
    seconds = time.perf_counter() - began
    expected, rng = left(scratch / recipe.name / "whole"), random.Random(0)
    after: list[float] = []
    resumed_from: Counter[str] = Counter()
    different: list[str] = []
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(f"killing {recipe.name}", total=kills)
        for number in itertools.count():
            folder = scratch / recipe.name / f"k{number:04}"
            for moment in [rng.uniform(0, seconds) for _ in range(1 + number % 2)]:
                if len(after) < kills and not run(recipe, folder, moment):
                    after.append(moment)
                    resumed_from[newest(folder)] += 1
            run(recipe, folder)
            different += differences(left(folder), expected)
            bar.update(task, completed=len(after))
            if len(after) == kills:
                break
    for name in different[:10]:
        sys.stderr.write(f"{recipe.name}: {name} differs\n")
    return {
        "system": recipe.name,
        "kills": len(after),
        "differences": len(different),
        "runs": number + 1,
        "compared_in_each": len(expected),
        "uninterrupted_seconds": seconds,
        "resumed_from": ", ".join(f"{name} {count}" for name, count in sorted(resumed_from.items())),
        "killed_after_seconds": after,
    }


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, quick="two kills of SimCLR; writes nothing")
    parser.add_argument("--kills", type=int, default=10, help="number of kills of each framework")
    args = parser.parse_args()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["idemvox.training.loop"])  # so that a process starts training at once
    frameworks = KILLED[:1] if args.quick else KILLED
    with tempfile.TemporaryDirectory() as name:
        manifest = synthetic_voices(Path(name) / "voices", 12, 4, 0).root / "manifest.csv"
        run(recipe_of("simclr", manifest), Path(name) / "first")  # imports everything once
        rows = [trial(f, manifest, Path(name), 2 if args.quick else args.kills) for f in frameworks]
    for row in rows:
        print(f"{row['system']:<12} {row['kills']} kills, {row['differences']} differences")
    if not args.quick:
        publish(args.out, "kill", "Training killed and resumed", __doc__ or "", rows, per="kill")
    if any(row["differences"] for row in rows):
        sys.exit("some results differ")


if __name__ == "__main__":
    main()
