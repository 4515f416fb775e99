"""How fast a training step is, how close to the machine's limit, and where its time goes.

    python benchmarks/train_step.py [--frameworks simclr simclr+ssps dino] [--encoders ecapa_tdnn]
        [--device cuda] [--batch 256] [--rounds 5] [--quick] [training.precision=bf16 ...]

The steps are those of a real run, with the crops and options of the framework's paper unless recipe keys are
given, on synthetic audio in a pack on disk; nothing is downloaded. `+ssps` is SSPS as in a run, with the
clean reference crops that it embeds, but its queues only hold the few utterances here. On a CPU, one thread
is used.

* utterances per second: utterances of the training corpus, each of which has several crops.
* share of peak: the operations of matrix products and convolutions in the time of a whole step, compared with
  a large matrix product in the same precision. Forward and backward pass, references and recomputation count.
* the parts' shares of a step's time: reading (here a step waits for each batch; in a run, threads read
  ahead), augmentation, log-mel features, the rest of the forward pass and of the loss, backward, optimiser
  (and updating the teacher), and SSPS (choosing, storing, embedding references). The rest is checks.
* activations: what one forward pass keeps for the backward pass, per utterance of the batch. peak: the most
  memory that PyTorch held on a GPU, or on a CPU that the process used; each system has its own process.

Writes docs/results/train_step.{md,json}, with -cuda added for a GPU.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from common import measuring, publish
from idemvox.audio.read import SAMPLE_RATE, write_wav
from idemvox.batch import Batch
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.encoders.base import Encoder
from idemvox.recipe import Recipe
from idemvox.registry import ENCODERS, FRAMEWORKS
from idemvox.training.run import Run

SECONDS = 5.0
PARTS = ("reading", "augmentation", "features", "forward", "backward", "optimiser", "SSPS")


class Clock:
    """Times the parts of a step; the time of a part inside another counts for the inner one only."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.spent: Counter[str] = Counter()
        self._within = ["checks"]
        self._mark = time.perf_counter()

    def charge(self) -> None:
        """Add the time since the last call to the current part."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.spent[self._within[-1]] += now - self._mark
        self._mark = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what runs here."""
        self.charge()
        self._within.append(name)
        try:
            yield
        finally:
            self.charge()
            self._within.pop()

    def timing(self, owner: Any, method: str, name: str) -> AbstractContextManager[Any]:
        """Return a context in which a method of an object is timed."""
        whole: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return whole(*args, **kwargs)

        return mock.patch.object(owner, method, timed)


def corpus(folder: Path, utterances: int) -> Path:
    """Pack noise with the rhythm of syllables, two utterances per speaker."""
    rng = np.random.default_rng(0)
    size = int(SECONDS * SAMPLE_RATE)
    rhythm = 0.1 + np.abs(np.sin(np.arange(size) / SAMPLE_RATE * 10))
    rows = []
    for n in range(utterances):
        write_wav(folder / f"{n}.wav", 0.1 * rhythm * rng.standard_normal(size))
        rows.append(Utterance(str(n), f"{n}.wav", SECONDS, speaker=f"s{n // 2}", recording="r"))
    save_manifest(Manifest(rows, folder), folder / "corpus.csv")
    pack(folder / "corpus.csv", folder / "pack", progress=False)
    return folder / "pack"


def recipe_of(
    system: str, encoder: str, manifest: Path, batch: int, device: str, overrides: list[str]
) -> Recipe:
    """Return the recipe of ``framework`` or ``framework+ssps``."""
    framework, _, positives = system.partition("+")
    given = [
        f"framework.name={framework}",
        f"encoder.name={encoder}",
        f"positives.name={positives or 'same'}",
    ]
    if positives:
        given.append(f"positives.clusters={batch // 2}")
    given += [f"data.manifest={manifest}", f"training.batch={batch}", f"training.device={device}"]
    return Recipe().override([*given, "training.workers=0", "augment.simulated_rooms=20", *overrides])


def peak(device: torch.device, precision: str, size: int) -> float:
    """Return the operations per second of a large matrix product: the best of ten."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    clock, best = Clock(device), float("inf")
    for _ in range(10):
        clock.spent.clear()
        with clock.part("product"):
            a @ b
        best = min(best, clock.spent["product"])
    return 2 * size**3 / best


def begun(recipe: Recipe) -> tuple[Run, Iterator[Batch]]:
    """Return a run before its first step, and an endless stream of its batches."""
    run = Run(recipe)
    if "reference" in run.positives.views():
        ids = torch.arange(run.batches.size, device=run.fabric.device)
        run.positives.observe(ids, torch.randn(len(ids), run.framework.embedder.dim, device=ids.device))
        run.positives.start_epoch(0)
    run.framework.train()
    return run, (batch for epoch in count() for batch in run.batches.epoch(epoch, run.positives))


def kept_mb(run: Run, batch: Batch) -> float:
    """Return the memory that a forward pass keeps for the backward pass, in MB per utterance."""
    weights = {p.untyped_storage().data_ptr() for p in run.framework.parameters()}
    shapes = {shape for p in run.framework.parameters() for shape in (p.shape, p.shape[::-1])}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights and value.shape not in shapes:  # neither a weight nor its cast
            kept[storage.data_ptr()] = storage
        return value.detach()  # a tensor given back to its own graph would never be freed

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), run.fabric.autocast():
        run.framework(batch, run.swap)
    stored = sum(storage.nbytes() for storage in kept.values())
    return stored / len(batch.ids) / 1e6


def first_step(run: Run, batches: list[Batch]) -> dict[str, float]:
    """Take a step; return its operations and the memory it keeps, per utterance."""
    with FlopCounterMode(display=False) as counter:
        run.step(batches, 0, 0.1)
    utterances = sum(len(batch.ids) for batch in batches)
    return {
        "gflop_per_utterance": counter.get_total_flops() / utterances / 1e9,
        "activations_mb": kept_mb(run, batches[0]),
    }


def measured(recipe: Recipe, rounds: int, most: float) -> dict[str, Any]:
    """Time so many steps after two to warm up; ``most`` is the machine's peak, in operations per second."""
    torch.set_num_threads(1)
    with ExitStack() as timing:
        run, batches = begun(recipe)
        many, device = recipe.training.accumulate, run.fabric.device
        found = first_step(run, list(islice(batches, many)))
        run.step(islice(batches, many), 0, 0.1)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        clock = Clock(device)
        for owner, method, name in (
            (run.batches, "read", "reading"),
            (run.batches, "prepare", "augmentation"),
            (run.framework, "forward", "forward"),
            (run.fabric, "backward", "backward"),
            (run.optimizer, "step", "optimiser"),
            (run.framework, "after_step", "optimiser"),
            (run.positives, "forward", "SSPS"),
            (run.positives, "observe", "SSPS"),
            (run.positives, "store", "SSPS"),
            (run, "reference", "SSPS"),
            *((m.frontend, "forward", "features") for m in run.framework.modules() if isinstance(m, Encoder)),
        ):
            timing.enter_context(clock.timing(owner, method, name))
        rates, utterances = [], recipe.training.batch * many
        clock.charge()
        clock.spent.clear()
        for _ in range(rounds):
            before = clock.spent.total()
            run.step(islice(batches, many), 0, 0.1)
            clock.charge()
            rates.append(utterances / (clock.spent.total() - before))
    rate = statistics.median(rates)
    shares = {part: clock.spent[part] / clock.spent.total() for part in (*PARTS, "checks")}
    row = {
        "utterances_per_second": rates,
        "share_of_peak": 1e9 * found["gflop_per_utterance"] * rate / most,
        **shares,
        **found,
    }
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row["peak_gb"] = (torch.cuda.max_memory_allocated(device) if device.type == "cuda" else used) / 1e9
    return row


def main() -> None:
    """Run the benchmark."""
    learning = [name for name in ENCODERS if ENCODERS[name].fitter == "gradient"]
    systems = [*FRAMEWORKS, "simclr+ssps", "dino+ssps"]
    parser = measuring(
        __doc__, rounds=5, quick="SimCLR-SSPS on Fast ResNet-34 in batches of 4; writes nothing"
    )
    parser.add_argument("--frameworks", nargs="+", choices=systems, metavar="NAME", help=", ".join(systems))
    parser.add_argument("--encoders", nargs="+", choices=learning, metavar="NAME", help=", ".join(learning))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, help="default: 256 on a GPU, 32 on a CPU")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys for every system")
    args = parser.parse_intermixed_args()
    device, console = torch.device(args.device), Console()
    torch.set_num_threads(1)
    batch = args.batch or (4 if args.quick else 256 if device.type == "cuda" else 32)
    precision = Recipe().override(args.overrides).training.precision
    most = peak(device, precision, 512 if args.quick else 2048 if device.type == "cpu" else 8192)
    console.print(f"a large matrix product, {precision}: {most / 1e9:.0f} billion operations a second")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        manifest = corpus(Path(folder), 2 * batch)
        for encoder in args.encoders or (["fast_resnet34"] if args.quick else learning):
            for system in args.frameworks or (["simclr+ssps"] if args.quick else systems):
                recipe = recipe_of(system, encoder, manifest, batch, args.device, args.overrides)
                with ProcessPoolExecutor(1, get_context("spawn")) as alone:
                    found = alone.submit(measured, recipe, 1 if args.quick else args.rounds, most).result()
                rows.append({"system": f"{system}, {encoder}", **found})
                rate, share = statistics.median(found["utterances_per_second"]), found["share_of_peak"]
                parts = ", ".join(f"{part} {found[part]:.0%}" for part in PARTS if found[part] >= 0.005)
                console.print(
                    f"{rows[-1]['system']:<36} {rate:8.1f} utterances/s, {share:.0%} of peak, "
                    f"{found['activations_mb']:.1f} MB kept each; {parts}",
                    highlight=False,
                )
    if not args.quick:
        publish(
            args.out,
            "train_step" if device.type == "cpu" else f"train_step-{device.type}",
            f"A training step, batches of {batch}, {precision} ({device.type})",
            __doc__ or "",
            rows,
            f"\n\nThe large matrix product: {most / 1e9:.0f} billion operations a second.",
            per="round",
        )


if __name__ == "__main__":
    main()
