"""How much memory each recipe's forward pass keeps for its backward pass.

    python benchmarks/activations.py [--quick]

Each row is one forward pass of a recipe that is trained by gradients, with a batch of 4 utterances of
synthetic audio. It counts the tensors that autograd stores, each storage once, without the weights. This
memory is proportional to the batch size, except for the comparison of all utterances with each other, which
is small.

* mb each: per utterance of the batch, in the recipe's precision. "bf16" is with `training.precision=bf16`,
  "recompute" with `training.recompute=true` in the recipe's precision.
* batch gb: for the recipe's whole batch. Weights, gradients, the optimiser's state and queues come on top.

Writes docs/results/activations.{md,json}.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common import measuring, publish
from idemvox.recipe import Recipe, load_recipe
from idemvox.recipes import recipe_names
from idemvox.registry import ENCODERS
from train_step import begun, corpus, kept_mb

BATCH = 4
WAYS = {"": (), "_bf16": ("training.precision=bf16",), "_recompute": ("training.recompute=true",)}


def measured(recipe: Recipe) -> float:
    """Return the memory that a forward pass keeps, in MB per utterance."""
    run, batches = begun(recipe)
    return kept_mb(run, next(batches))


def row(name: str, manifest: Path) -> dict[str, Any]:
    """Return the row of one recipe."""
    recipe = load_recipe(name)
    small = [f"data.manifest={manifest}", f"training.batch={BATCH}", "training.accumulate=1"]
    small += ["training.device=cpu", "training.workers=0", "augment.simulated_rooms=20"]
    small += ["augment.noise=null", "augment.music=null", "augment.speech=null", "augment.rooms=null"]
    if recipe.positives.name == "ssps":
        small.append(f"positives.clusters={BATCH // 2}")
    batch = recipe.training.batch
    found: dict[str, Any] = {"system": name, "encoder": recipe.encoder.name, "batch": batch}
    for name, overrides in WAYS.items():
        each = measured(recipe.override([*small, *overrides]))
        found |= {f"mb_each{name}": each, f"batch_gb{name}": batch * each / 1e3}
    return found


def main() -> None:
    """Run the benchmark."""
    args = measuring(__doc__, quick="one recipe; writes nothing").parse_args()
    torch.set_num_threads(1)
    console, rows = Console(), []
    with tempfile.TemporaryDirectory() as folder:
        manifest = corpus(Path(folder), 2 * BATCH)
        for name in recipe_names():
            if ENCODERS[load_recipe(name).encoder.name].fitter != "gradient" or (
                args.quick and name != "simclr"
            ):
                continue
            rows.append(row(name, manifest))
            console.print(rows[-1])
    if not args.quick:
        publish(args.out, "activations", "What a forward pass keeps", __doc__ or "", rows)


if __name__ == "__main__":
    main()
