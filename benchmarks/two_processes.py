"""Do several processes train as one does? Trains every framework with and without SSPS, both ways.

    python benchmarks/two_processes.py [--devices 2] [--quick]

Each recipe is trained on synthetic voices for 6 steps, by one process and by several with the same total
batch. With SSPS, a pass that fills the queues and k-means come first. The optimiser is SGD, because Adam
turns rounding errors into full steps, and the rate is low, because rounding errors grow from step to step.

* first loss, any loss: the relative difference of the first step's losses, and the largest of any step's.
* update: the norm of the final difference between both runs' weights, statistics, teachers and centres,
  relative to the norm of their change since the start.
* choices: how many of the integers that record queue slots and cluster assignments differ.

tests/training/test_launch.py tolerates 2e-3 for any loss, 0.02 for the update, and no different choice.

Writes docs/results/two_processes.{md,json}.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from common import measuring, publish
from idemvox.corpus.simulated.voices import synthetic_voices
from idemvox.frameworks.base import Framework
from idemvox.recipe import Recipe
from idemvox.registry import FRAMEWORKS
from idemvox.training.assembly import assemble
from idemvox.training.launch import train_on
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint

MEASURED = {
    "seconds": 0.5,
    "global_seconds": 0.6,
    "local_seconds": 0.4,
    "hidden": 32,
    "bottleneck": 16,
    "outputs": 64,
}
"""Sizes used for the published results; with a framework's tiny sizes, rounding errors grow faster."""


def recipe_of(framework: str, positives: str, manifest: Path) -> Recipe:
    """Return a run of a few seconds."""
    tiny = FRAMEWORKS[framework].tiny
    options = {"name": framework, **tiny, **{key: MEASURED[key] for key in tiny.keys() & MEASURED.keys()}}
    ssps = "{name: ssps, clusters: 12, queue: 30, seconds: 0.8}"
    return Recipe().override(
        [
            f"name={framework}+{positives}",
            f"data.manifest={manifest}",
            "frontend.mels=20",
            "encoder={name: fast_resnet34, channels: [4, 8, 8, 8], dim: 16}",
            f"framework={json.dumps(options)}",
            f"positives={ssps if positives == 'ssps' else positives}",
            "augment.simulated_rooms=4",
            "training={epochs: 1, batch: 8, optimizer: sgd, lr: 0.0005, workers: 0, device: cpu}",
        ]
    )


def run(recipe: Recipe, folder: Path, devices: int) -> tuple[Tensor, dict[str, Any]]:
    """Train; return the losses of all logged steps, and the last checkpoint."""
    train_on(devices, recipe, folder, progress=False)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = torch.tensor([line["loss"] for line in lines if line["event"] == "step"])
    checkpoint = last_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    return losses, load_checkpoint(checkpoint)


def weights(state: dict[str, Any]) -> Tensor:
    """Return weights, statistics and teachers as one vector."""
    numbers = [v for k, v in state.items() if isinstance(v, Tensor) and "num_batches" not in k]
    return torch.cat([v.flatten().double() for v in numbers])


def compare(recipe: Recipe, scratch: Path, devices: int) -> dict[str, Any]:
    """Train with one process and with several; return the row of a recipe."""
    begin = weights(assemble(recipe).framework.state_dict())
    (one, alone), (other, together) = (run(recipe, scratch / f"{recipe.name}-{n}", n) for n in (1, devices))
    first, second = weights(alone["framework"]), weights(together["framework"])
    apart = ((one - other) / one).abs()
    choices = [k for k, v in alone["positives"].items() if not v.is_floating_point()]
    return {
        "system": recipe.name,
        "steps": len(one),
        "first_loss": float(apart[0]),
        "any_loss": float(apart.max()),
        "update": float((first - second).norm() / (first - begin).norm()),
        "choices": sum(int((alone["positives"][k] != together["positives"][k]).sum()) for k in choices),
    }


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, quick="two frameworks; writes nothing")
    parser.add_argument("--devices", type=int, default=2)
    args = parser.parse_args()
    console, rows = Console(), []
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        manifest = synthetic_voices(Path(folder) / "voices", 8, 6, 0).root / "manifest.csv"
        for name in ("simclr", "dino") if args.quick else FRAMEWORKS:
            swaps = FRAMEWORKS[name].target is not Framework.target
            for positives in ("same", "ssps") if swaps else ("same",):
                rows.append(compare(recipe_of(name, positives, manifest), Path(folder), args.devices))
                console.print(rows[-1])
    if not args.quick:
        publish(args.out, "two_processes", "Several processes train as one", __doc__ or "", rows)


if __name__ == "__main__":
    main()
