"""What SSPS adds to a training step, and how much memory its queues take, at VoxCeleb2's scale.

    python benchmarks/ssps_step.py [--rounds 7] [--quick]

A batch is 256 of 1,092,009 utterances. There are K = 25,000 clusters, and targets and references have 512
numbers (SimCLR). Everything runs in fp32 on one CPU thread. The time is what SSPS adds to a step, except for
the encoder's pass over the reference crops: adding the references, choosing, swapping, and storing the
targets. The references are random directions. The clusters are random too, set without k-means and of about
equal size. (Anchors in large clusters have more to draw from, which takes a little longer.) Every step has
other utterances.

* ms per step: the mean of 50 steps, or one of "neighbour", which compares the batch with the whole queue.
* coverage: the share of targets that were replaced in the last of these steps.
* of which: parts of the step of "M = 1, |Q'| = K".
* memory: the size of both queues' buffers, including those for looking up and drawing, and how much a process
  of its own grows when it makes and fills them and takes a step, without k-means at the start of an epoch.

Writes docs/results/ssps_step.{md,json}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from common import in_turn, measuring, publish
from idemvox.positives.base import Setting
from idemvox.positives.clusters import ClusterSampler
from idemvox.positives.queue import EmbeddingQueue
from idemvox.registry import POSITIVES

BATCH, DIM, STEPS = 256, 512, 50


@dataclass(frozen=True, slots=True)
class Scale:
    """N utterances in K clusters."""

    utterances: int
    clusters: int


def directions(rows: int) -> Tensor:
    """Return (rows, DIM) random unit vectors, normalised in place."""
    found = torch.empty(rows, DIM)
    for part in found.split(10_000):
        F.normalize(part.normal_(), dim=1, out=part)
    return found


def sampler(scale: Scale, name: str = "ssps", **options: Any) -> Any:
    """Return a positive sampler with empty queues."""
    cls = POSITIVES[name]
    if issubclass(cls, ClusterSampler):
        options["clusters"] = scale.clusters
    return cls(cls.Options(**options), Setting(scale.utterances, DIM, DIM, seed=0))


def cluster(ssps: ClusterSampler) -> None:
    """Assign utterances to random clusters instead of by k-means; the next clusters count as the nearest."""
    ssps.assignment.random_(0, ssps.clusters)
    hop = torch.arange(ssps.near.shape[1]) + min(ssps.options.neighbours, 1)
    ssps.near[: ssps.clusters].copy_((torch.arange(ssps.clusters)[:, None] + hop) % ssps.clusters)


def fill(ssps: Any) -> None:
    """Store random targets until the queue is full."""
    for ids in torch.randperm(ssps.setting.utterances)[: ssps.queue.size].split(10_000):
        ssps.store(ids, directions(len(ids)))


def stepping(ssps: Any, count: int = STEPS) -> Callable[[], Tensor]:
    """Return a function that takes so many steps and returns which targets the last one replaced."""
    batches = cycle(torch.randperm(ssps.setting.utterances).split(BATCH)[:-1])
    reference, targets = directions(BATCH), directions(BATCH)

    def run() -> Tensor:
        for _ in range(count):
            ids = next(batches)
            swap = ssps(ids, targets)
            swap.related(ids)
            ssps.observe(ids, reference)
            ssps.store(ids, swap.offered)
        replaced: Tensor = swap.replaced
        return replaced

    return run


def parts(ssps: Any) -> dict[str, Callable[[], None]]:
    """Return functions that repeat one part of a step."""
    batches = cycle(torch.randperm(ssps.setting.utterances).split(BATCH)[:-1])
    vectors = directions(BATCH)

    def repeat(part: Callable[[Tensor], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(STEPS):
                part(next(batches))

        return run

    return {
        "of which adding references": repeat(lambda ids: ssps.observe(ids, vectors)),
        "of which choosing": repeat(ssps.choose),
        "of which storing targets": repeat(lambda ids: ssps.store(ids, vectors)),
    }


def systems(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return the variants to time: name -> options."""
    k, n = scale.clusters, scale.utterances
    sizes = {"K": k, "N": n}
    found: dict[str, dict[str, Any]] = {
        f"M = {m}, |Q'| = {name}": {"neighbours": m, "queue": size}
        for (name, size), m in product(sizes.items(), (0, 1, 2))
    }
    found["M = 1, |Q'| = 3 K"] = {"queue": 3 * k}
    found["M = 1, |Q'| = K, from all utterances"] = {"queue": k, "sample_from": "train"}
    found["M = 2, |Q'| = K, exponential"] = {"neighbours": 2, "queue": k, "choice": "exponential"}
    found["M = 1, |Q'| = K, masked"] = {"queue": k, "mask_cluster": True}
    for other, (name, size) in product(("ssps_centroid", "nearest_neighbour"), sizes.items()):
        found[f"{other}, |Q'| = {name}"] = {"queue": size, "name": other}
    return found


def timed(scale: Scale, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each variant; they share the references and the largest queue, to save memory."""
    reference = directions(scale.utterances)
    table: EmbeddingQueue | None = None
    samplers: dict[str, Any] = {}
    ways: dict[str, tuple[Callable[[], object], float]] = {}
    for name, options in systems(scale).items():
        ssps = samplers[name] = sampler(scale, **options)
        if isinstance(ssps, ClusterSampler):
            ssps.reference = reference
            cluster(ssps)
        if table is None or not ssps.queue.is_table:
            fill(ssps)
        if ssps.queue.is_table:
            table = ssps.queue = table or ssps.queue
        count = STEPS if isinstance(ssps, ClusterSampler) else 1
        ways[name] = stepping(ssps, count), float(count)
    ways |= {name: (part, float(STEPS)) for name, part in parts(samplers["M = 1, |Q'| = K"]).items()}
    rates = in_turn(ways, rounds)
    rows: list[dict[str, Any]] = []
    for name in ways:
        row: dict[str, Any] = {"system": name, "ms_per_step": [1e3 / rate for rate in rates[name]]}
        if name in samplers:
            row["coverage"] = float(stepping(samplers[name], 1)().float().mean())
        rows.append(row)
    return rows


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weigh(scale: Scale, queue: int) -> dict[str, float]:
    """Make both queues, fill them, take a step, and return the memory that this takes, in MB."""
    step = stepping(sampler(Scale(1000, 10)))
    step()  # what the first step loads is not part of the queues
    before = resident()
    ssps = sampler(scale, queue=queue)
    cluster(ssps)
    ssps.reference.fill_(1)
    for ids in torch.arange(ssps.queue.size).split(10_000):
        ssps.store(ids, ssps.reference[: len(ids)])
    stepping(ssps, 1)()
    stored = sum(value.nbytes for value in ssps.queue.buffers())
    every = sum(value.nbytes for value in ssps.buffers())
    return {
        "references_mb": (every - stored) / 1e6,
        "queue_mb": stored / 1e6,
        "resident_mb": (resident() - before) / 1e6,
    }


def weighed(scale: Scale, queue: int) -> dict[str, float]:
    """Call :func:`weigh` in a fresh process."""
    given = json.dumps([scale.utterances, scale.clusters, queue])
    done = subprocess.run(
        [sys.executable, __file__, "--weigh", given], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=7, quick="a corpus of 20,000; writes nothing")
    parser.add_argument("--weigh", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    console = Console()
    if args.weigh is not None:
        utterances, clusters, queue = args.weigh
        console.print_json(json.dumps(weigh(Scale(utterances, clusters), queue)))
        return
    scale = Scale(20_000, 500) if args.quick else Scale(1_092_009, 25_000)
    rows = timed(scale, 2 if args.quick else args.rounds)
    for name, size in (("K", scale.clusters), ("N", scale.utterances)):
        rows.append({"system": f"memory, |Q'| = {name}", **weighed(scale, size)})
    for row in rows:
        shown = {
            k: statistics.median(v) if isinstance(v, list) else v for k, v in row.items() if k != "system"
        }
        console.print(f"{row['system']:<39}", *(f"{v:.3f} {k.replace('_', ' ')}" for k, v in shown.items()))
    if not args.quick:
        publish(
            args.out,
            "ssps_step",
            "What SSPS adds to a step, and the memory of its queues",
            __doc__ or "",
            rows,
            per="round",
        )


if __name__ == "__main__":
    main()
