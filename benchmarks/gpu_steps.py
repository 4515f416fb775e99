"""The steps of benchmarks/gpu.py, where they are described; each can be run alone.

    python benchmarks/gpu_steps.py STEP --out FOLDER [--device cuda] [--seconds 60] [--tiny] [--bundle FOLDER]

Each writes FOLDER/STEP.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

import ssps_gain
from common import parser_of
from idemvox.audio.augment import Augmenter
from idemvox.audio.frontend import LogMel
from idemvox.batch import Batch
from idemvox.clustering.agglomerative import agglomerate
from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.corpus.simulated.voices import synthetic_voices
from idemvox.files import write_json
from idemvox.frameworks.base import Framework
from idemvox.model import load_model
from idemvox.positives.base import Setting
from idemvox.positives.ssps import SSPS
from idemvox.recipe import Recipe, load_recipe
from idemvox.registry import FRAMEWORKS
from idemvox.studies.jobs import Job, TestSet, run_jobs
from idemvox.training.data import OneAhead
from idemvox.training.loop import train
from idemvox.training.watch.safety import Watch
from idemvox.verification.report import library_versions
from kmeans import embeddings
from ssps_step import BATCH, cluster, directions
from train_step import begun, corpus, first_step, peak
from two_processes import recipe_of as small_recipe
from two_processes import weights

VOXCELEB2 = 1_092_009
WHOLE = {
    "simclr-ecapa": 100,
    "simclr-ssps-ecapa": 20,
    "dino-ecapa": 80,
    "dino-ssps-ecapa": 20,
    "cel-a-prot": 500,
}
"""Epochs of the papers' schedules."""


class Notes:
    """The results of a step so far, written again after each new one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.file, self.found = args.out / f"{args.step}.json", dict[str, Any]()
        self.until = time.monotonic() + args.seconds - 3

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.until - time.monotonic()

    def put(self, **values: Any) -> None:
        """Add results."""
        self.found |= values
        write_json(self.file, self.found)

    def attempt(self, name: str, work: Callable[[], Any]) -> None:
        """Record what a function returns, or how it failed."""
        try:
            self.put(**{name: work()})
        except Exception:  # noqa: BLE001  # one failure must not cost the rest of the loan
            traceback.print_exc()
            self.put(**{name: {"failed": traceback.format_exc()[-1500:]}})
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: torch.device, rounds: int = 1) -> list[float]:
    """Return the seconds that each call takes."""
    seconds = []
    for _ in range(rounds):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        seconds.append(time.perf_counter() - began)
    return seconds


# -- peak ----------------------------------------------------------------------------------------------


def step_peak(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """The machine, and its peak speeds."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    notes.put(device=name, cores=os.cpu_count(), versions=library_versions())
    size = 512 if args.tiny else 8192
    for precision in ("bf16", "fp32"):
        notes.attempt(f"product_{precision}_tflops", lambda p=precision: peak(device, p, size) / 1e12)
    x = torch.randn((1 << 20) if args.tiny else (1 << 30), device=device)
    y = torch.empty_like(x)
    seconds = min(timed(lambda: y.copy_(x), device, 5))
    notes.put(copy_gb_per_second=2 * x.numel() * 4 / seconds / 1e9)


# -- right ---------------------------------------------------------------------------------------------


def step_right(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """Losses and gradients compared with the CPU's, exact resuming, torchrun, waits for the GPU."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = synthetic_voices(Path(folder) / "voices", 8, 6, 0).root / "manifest.csv"
        notes.attempt("resume", lambda: resumed(manifest, Path(folder), args.device))
        if device.type == "cuda":
            notes.attempt("torchrun", lambda: under_torchrun(manifest, Path(folder), args.device))
        notes.attempt("augmentation", lambda: augmented(manifest, device))
        systems = [
            (name, positives, encoder)
            for encoder in ("fast_resnet34", "ecapa_tdnn")
            for name in (("simclr", "dino") if args.tiny else FRAMEWORKS)
            for positives in (
                ("same", "ssps") if FRAMEWORKS[name].target is not Framework.target else ("same",)
            )
        ]
        workers = 1 if args.tiny else min(6, (os.cpu_count() or 2) // 2)
        rows: list[Any] = []
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            work = [
                pool.submit(compared, *system, manifest, args.device, 3 if args.tiny else 20)
                for system in systems
            ]
            for system, future in zip(systems, work, strict=True):
                try:
                    rows.append(future.result(timeout=max(notes.left, 1)))
                except Exception:  # noqa: BLE001
                    rows.append({"system": "+".join(system), "failed": traceback.format_exc()[-1200:]})
                notes.put(systems=rows)


def sized(name: str, positives: str, encoder: str, manifest: Path, device: str, *more: str) -> Recipe:
    """Return a small recipe of a system."""
    recipe = small_recipe(name, positives, manifest)
    part = {
        "fast_resnet34": "{name: fast_resnet34, channels: [8, 8, 16, 16], dim: 16}",
        "ecapa_tdnn": "{name: ecapa_tdnn, channels: 32, mfa_channels: 48, attention: 8, bottleneck: 8, "
        "dim: 16}",
    }[encoder]
    return recipe.override([f"encoder={part}", f"training.device={device}", *more])


def compared(
    name: str, positives: str, encoder: str, manifest: Path, device: str, steps: int
) -> dict[str, Any]:
    """Train on the same batches on the CPU and on the device; return how far the results differ.

    The first loss and gradient are compared with those of the CPU in float64. The losses of all steps are
    compared with those of the CPU in fp32, because float64 draws other pseudo-positives. All start with the
    same weights and clusters.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    row: dict[str, Any] = {"system": f"{name}+{positives}+{encoder}"}
    on: dict[str, Any] = {}
    begin: tuple[Any, Any] | None = None
    drawn: list[Batch] = []
    for where, precision in (("cpu", "fp32"), ("cpu", "fp64"), (device, "fp32"), (device, "bf16")):
        key = "training.precision=" + ("bf16" if precision == "bf16" else "fp32")
        with doubled() if precision == "fp64" else nullcontext():
            run, batches = begun(sized(name, positives, encoder, manifest, where, key))
            if begin is None:
                begin = copy.deepcopy((run.framework.state_dict(), run.positives.state_dict()))
                drawn = list(islice(batches, steps))
            run.framework.load_state_dict(begin[0])
            run.positives.load_state_dict(begin[1])
            there = run.fabric.device
            given = [moved(batch, there, precision == "fp64") for batch in drawn]
            loss = run.differentiate(given[0]).step.loss
            gradient = torch.cat(
                [p.grad.flatten().double().cpu() for p in run.framework.parameters() if p.grad is not None]
            )
            run.optimizer.zero_grad(set_to_none=True)
            losses = [run.step([batch], 0, 0.1).loss for batch in given]
        on[f"{where}-{precision}"] = (float(loss), gradient, losses)
        if there.type == "cuda":
            row[f"waits_{precision}"] = waits(lambda r=run, g=given: r.step([g[0]], 0, 0.1))
            row[f"peak_mb_{precision}"] = torch.cuda.max_memory_allocated() / 1e6
    loss, gradient, _ = on["cpu-fp64"]
    losses = on["cpu-fp32"][2]
    for which in ("cpu-fp32", f"{device}-fp32", f"{device}-bf16"):
        other, its, path = on[which]
        pairs = [abs(a - b) / abs(a) for a, b in zip(losses, path, strict=True) if None not in (a, b)]
        row[which] = {
            "loss": abs(other - loss) / abs(loss),
            "gradient": float((its - gradient).norm() / gradient.norm()),
            "path": max(pairs, default=float("nan")),
            "skipped": path.count(None),
        }
    return row


@contextmanager
def doubled() -> Iterator[None]:
    """Compute in float64, also where the code asks for float32 rather than bf16."""
    real = torch.Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = real  # type: ignore[method-assign]
        torch.set_default_dtype(torch.float32)


def moved(batch: Batch, device: torch.device, double: bool) -> Batch:
    """Return a batch on a device."""
    classes = None if batch.classes is None else batch.classes.to(device)
    dtype = torch.float64 if double else torch.float32
    return Batch(batch.ids.to(device), {n: v.to(device, dtype) for n, v in batch.views.items()}, classes)


def waits(work: Callable[[], Any]) -> list[str]:
    """Return the places in the code where a call waits for the GPU."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        work()
        torch.cuda.set_sync_debug_mode("default")
    return sorted({f"{Path(w.filename).name}:{w.lineno}" for w in found if "synchroniz" in str(w.message)})


def augmented(manifest: Path, device: torch.device) -> dict[str, Any]:
    """Augment the same batch on the CPU and on the device; list where augmenting waits for the device."""
    given = {}
    for where in ("cpu", device.type):
        recipe = sized("simclr", "same", "fast_resnet34", manifest, where)
        batches = begun(recipe)[1]
        given[where] = next(batches).views["anchor"].cpu()
        if where == "cuda":
            stalls = waits(lambda b=batches: next(b))
    apart = (given["cpu"] - given[device.type]).norm() / given["cpu"].norm()
    return {"apart": float(apart), "waits": stalls if device.type == "cuda" else []}


def resumed(manifest: Path, folder: Path, device: str) -> dict[str, Any]:
    """Compare a run of two epochs, bit for bit, with the same run repeated and with one that is resumed."""
    out = {}
    for system in (("simclr", "ssps"), ("dino", "same")):
        recipe = sized(
            *system, "ecapa_tdnn", manifest, device, "training.epochs=2", "training.schedule_epochs=2"
        )
        at = folder / "+".join(system)
        whole, again = (train(recipe, at / n, progress=False).model for n in ("whole", "again"))
        train(recipe.override(["training.epochs=1"]), at / "parts", progress=False)
        parts = train(recipe, at / "parts", resume=True, progress=False).model
        bits = [weights(load_model(m).encoder.state_dict()) for m in (whole, again, parts)]
        out["+".join(system)] = {
            "repeats": torch.equal(bits[0], bits[1]),
            "resumes": torch.equal(bits[0], bits[2]),
        }
    return out


def under_torchrun(manifest: Path, folder: Path, device: str) -> dict[str, Any]:
    """Train under torchrun with one process, which uses NCCL."""
    sized("simclr", "ssps", "ecapa_tdnn", manifest, device).save(folder / "nccl.yaml")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m"]
    words += ["idemvox.cli", "train", str(folder / "nccl.yaml"), "--out", str(folder / "nccl")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return {"exit": done.returncode, "output": (done.stdout + done.stderr)[-600:] if done.returncode else ""}


# -- sizes ---------------------------------------------------------------------------------------------


def step_sizes(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """The cost of clustering, and of a step of SSPS, at VoxCeleb2's size."""
    n, k = (4_000, 100) if args.tiny else (VOXCELEB2, 25_000)
    notes.put(utterances=n, clusters=k)
    notes.attempt("ssps_ms_per_step", lambda: ssps_ms(n, k, device))
    x = embeddings(n // 8).repeat(8, 1)[:n] if not args.tiny else embeddings(n)
    x = torch.nn.functional.normalize(x.to(device) + 0.03 * torch.randn(x.shape, device=device), dim=1)
    notes.attempt("kmeans_seconds", lambda: timed(lambda: spherical_kmeans(x, k, 10), device, 2))
    notes.attempt("kmeans_cosine", lambda: spherical_kmeans(x, k, 10).objective)
    notes.attempt("agglomeration_seconds", lambda: timed(lambda: agglomerate(x).cut(k // 3), device))
    if device.type == "cuda":
        notes.put(peak_gb=torch.cuda.max_memory_allocated() / 1e9)


def ssps_ms(n: int, k: int, device: torch.device) -> dict[str, list[float]]:
    """Return the milliseconds that several samplers take per step: add references, choose, store targets."""
    found = {}
    for m, queue in ((0, k), (1, k), (1, n)):
        setting = Setting(n, 512, 512, seed=0)
        ssps = SSPS(SSPS.Options(clusters=k, neighbours=m, queue=queue), setting)
        cluster(ssps)
        ssps = ssps.to(device)
        order = torch.randperm(n).to(device)
        vectors = directions(BATCH).to(device)
        for ids in order[: ssps.queue.size].split(10_000):
            ssps.store(ids, vectors[:1].expand(len(ids), -1))
        batches = order.split(BATCH)[:-1][:120]

        def steps(ssps: SSPS = ssps, batches: Any = batches, vectors: torch.Tensor = vectors) -> None:
            for ids in batches:
                ssps.observe(ids, vectors[: len(ids)])
                ssps.store(ids, ssps(ids, vectors[: len(ids)]).offered)

        steps()
        found[f"M = {m}, |Q'| = {queue}"] = [1e3 * s / len(batches) for s in timed(steps, device, 5)]
    return found


# -- speed ---------------------------------------------------------------------------------------------


VARIANTS: dict[str, tuple[str, ...]] = {
    "": (),
    "compiled": ("training.compile=true",),
    "channels-last": (),
}


def step_speed(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """Utterances per second of the papers' recipes, with the real loader."""
    file = args.out / "peak.json"
    peaks = json.loads(file.read_text()) if file.is_file() else {}
    plan = [(name, "") for name in WHOLE] + [("cel-a-prot", "channels-last")]
    plan += [(name, "compiled") for name in WHOLE]
    with tempfile.TemporaryDirectory() as folder:
        pack = corpus(Path(folder), 32 if args.tiny else 2048)
        notes.put(rows=[])
        for name, variant in plan[: 2 if args.tiny else None]:
            if notes.left < 15 and not args.tiny:
                break
            title = f"{name} {variant}".strip()
            recipe = speed_recipe(name, pack, args, *VARIANTS[variant])
            row: dict[str, Any] = {"recipe": title}
            try:
                row |= speed(recipe, device, variant, args.tiny)
                row["hours"] = WHOLE[name] * VOXCELEB2 / row["utterances_per_second"] / 3600
                if most := peaks.get("product_bf16_tflops"):
                    rate = row["utterances_per_second"] * row["gflop_per_utterance"]
                    row["share_of_peak"] = rate / most / 1e3
            except Exception:  # noqa: BLE001
                row["failed"] = traceback.format_exc()[-1500:]
            if device.type == "cuda":
                torch.cuda.empty_cache()
            notes.put(rows=[*notes.found["rows"], row])


def speed_recipe(name: str, pack: Path, args: argparse.Namespace, *more: str) -> Recipe:
    """Return a recipe of a paper for the corpus of a benchmark."""
    keys = [f"data.manifest={pack}", "training.precision=bf16", f"training.device={args.device}", *more]
    recipe = load_recipe(name).override([*keys, "training.workers=6", "augment.simulated_rooms=50"])
    if recipe.positives.name == "ssps":
        recipe = recipe.override([f"positives.clusters={16 if args.tiny else 1024}"])
    if not args.tiny:
        return recipe
    small = ["encoder.channels=[4,8,8,8]"]
    if recipe.encoder.name == "ecapa_tdnn":
        small = ["encoder.channels=32", "encoder.mfa_channels=48"]
    return recipe.override(["training.batch=8", "training.workers=0", *small])


def speed(recipe: Recipe, device: torch.device, variant: str, tiny: bool) -> dict[str, Any]:
    """Time some steps as in a run, then profile some more."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run, batches = begun(recipe)
    row: dict[str, Any] = {}
    if variant == "channels-last":
        run.framework.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if variant != "compiled":  # the counter does not see compiled code
        row |= first_step(run, [next(batches)])
    ahead = OneAhead(batches, device.type == "cuda")

    def steps(count: int) -> None:
        for _ in range(count):
            run.step(islice(ahead, 1), 0, 0.1, ahead.prepare)

    steps(1 if tiny else 6)
    count = 2 if tiny else 12
    seconds = timed(lambda: steps(count), device, 1 if tiny else 3)
    each = sorted(seconds)[len(seconds) // 2] / count
    row |= {
        "utterances_per_second": recipe.training.batch / each,
        "ms_per_step": 1e3 * each,
        "rounds": [recipe.training.batch * count / s for s in seconds],
        "waiting_for_audio": run.batches.audio_wait.share(),
    }
    if device.type == "cuda":
        row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return row | profiled(lambda: steps(1 if tiny else 3), 1 if tiny else 3, each, device)


def profiled(work: Callable[[], None], count: int, each: float, device: torch.device) -> dict[str, Any]:
    """Return how busy the GPU is, and what takes longest on it and on the host, in ms per step."""
    kinds = torch.profiler.ProfilerActivity
    known = [kinds.CPU, kinds.CUDA] if device.type == "cuda" else [kinds.CPU]
    parts = ((Augmenter, "augmentation"), (LogMel, "features"), (SSPS, "SSPS"), (Watch, "checks"))
    with ExitStack() as stack:
        for owner, name in parts:
            stack.enter_context(named(owner, "look" if owner is Watch else "forward", name))
        with torch.profiler.profile(activities=known) as profile:
            work()
            wait(device)
    events = [e for e in profile.key_averages()]
    names = [name for _, name in parts]
    marked = [e for e in events if e.key in names and e.device_type == torch.autograd.DeviceType.CPU]
    events = [e for e in events if e.key not in names]
    kernels = [e for e in events if e.device_type == torch.autograd.DeviceType.CUDA]
    busy = sum(e.self_device_time_total for e in kernels) / 1e6 / count
    top = sorted(kernels, key=lambda e: -e.self_device_time_total)[:12]
    host = sorted(events, key=lambda e: -e.self_cpu_time_total)[:8]
    return {
        "gpu_busy": busy / each,
        "launches": sum(e.count for e in kernels) / count,
        "parts_ms": {e.key: e.device_time_total / 1e3 / count for e in marked},
        "parts_host_ms": {e.key: e.cpu_time_total / 1e3 / count for e in marked},
        "kernels_ms": {e.key[:90]: e.self_device_time_total / 1e3 / count for e in top},
        "host_ms": {e.key[:60]: e.self_cpu_time_total / 1e3 / count for e in host},
    }


@contextmanager
def named(owner: type, method: str, name: str) -> Iterator[None]:
    """Give a method a name of its own in the profile."""
    whole: Callable[..., Any] = getattr(owner, method)

    def inside(*args: Any, **kwargs: Any) -> Any:
        with torch.profiler.record_function(name):
            return whole(*args, **kwargs)

    setattr(owner, method, inside)
    try:
        yield
    finally:
        setattr(owner, method, whole)


# -- study ---------------------------------------------------------------------------------------------


def step_prepare(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """Unpack the bundle and simulate the recordings, in the background."""
    os.nice(5)
    at = scratch(args)
    with tarfile.open(args.bundle / "speech.tar.gz") as tar:
        tar.extractall(at / "speech", filter="data")
    (at / "speech" / "speech.csv").write_bytes((args.bundle / "speech.csv").read_bytes())
    train_part, dev = ssps_gain.from_bundle(at / "speech")
    if args.tiny:
        some = {*train_part.speakers[::24], *(s for s in train_part.speakers[::HELD] if s)}
        train_part, kept = train_part.select(lambda u: u.speaker in some), set(dev.speakers[:6])
        dev = dev.select(lambda u: u.speaker in kept)
    workers = max(1, (os.cpu_count() or 2) - 4)
    for name in ssps_gain.SETTINGS:
        began = time.perf_counter()
        data = ssps_gain.build(at / name, name, train_part, dev, workers)
        shown = {"train": str(data.train), "utterances": data.utterances, "recordings": data.recordings}
        shown["tests"] = [[t.name, str(t.trials), str(t.manifest)] for t in data.tests]
        write_json(at / f"{name}.json", shown)
        notes.put(**{name: {**shown, "seconds": time.perf_counter() - began}})


HELD = 64  # a tiny study holds out every 64th speaker


def scratch(args: argparse.Namespace) -> Path:
    """Return the study's working folder: outside OUT, which is copied back."""
    at = Path(tempfile.gettempdir()) / f"idemvox-gpu-{args.out.resolve().name}"
    at.mkdir(exist_ok=True)
    return at


def step_study(args: argparse.Namespace, notes: Notes, device: torch.device) -> None:
    """Train and score as many systems as time allows."""
    at, every = scratch(args), []
    speech = at / "speech"
    banks = (f"augment.noise={speech / 'noise'}", f"augment.music={speech / 'music'}", "training.workers=2")
    seeds = {"mild": range(1 if args.tiny else 3), "dense": range(1 if args.tiny else 2)}
    for name in ssps_gain.SETTINGS:
        file = at / f"{name}.json"
        while not file.is_file() and notes.left > 5:
            time.sleep(0.5)
        if not file.is_file():
            break
        shown = json.loads(file.read_text())
        tests = tuple(TestSet(t[0], Path(t[1]), Path(t[2])) for t in shown["tests"])
        data = ssps_gain.Data(Path(shown["train"]), shown["utterances"], shown["recordings"], tests)
        more = (*banks, f"training.device={args.device}", *(TINY if args.tiny else ()))
        every += ssps_gain.jobs(
            name, data, at / "runs", seeds[name], more, scale=0.02 if args.tiny else args.scale
        )
    every = ordered(every)
    failed: list[str] = []

    def work() -> None:
        try:
            run_jobs(every, 1 if args.tiny else args.jobs, progress=False)
        except Exception:  # noqa: BLE001
            failed.append(traceback.format_exc()[-1500:])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive() and notes.left > 12:
        thread.join(4)
        gather(every, notes, failed)
        keep(every, args.out)
    gather(every, notes, failed)
    sys.stdout.flush()
    os._exit(0)  # unfinished runs end with this process


TINY = ("encoder.channels=16", "encoder.mfa_channels=24", "training.batch=16", "training.workers=0")


def ordered(jobs: list[Job]) -> list[Job]:
    """Sort: the bases first, then the runs by seed."""
    return sorted(jobs, key=lambda job: (bool(job.tests), job.recipe.seed))


def gather(jobs: list[Job], notes: Notes, failed: list[str]) -> None:
    """Record the scores so far, and the last epoch of every run."""
    rows = []
    for job in jobs:
        run = "/".join(job.folder.parts[-4:])
        curve = job.folder / "curves.csv"
        row: dict[str, Any] = {"run": run, "done": job.done}
        if curve.is_file():
            lines = curve.read_text().splitlines()
            row["last"] = dict(zip(lines[0].split(","), lines[-1].split(","), strict=False))
        if job.done and job.tests:
            row["scores"] = json.loads((job.folder / "evaluation.json").read_text())
        rows.append(row)
    notes.put(runs=rows, failed=failed)


def keep(jobs: list[Job], out: Path) -> None:
    """Write the records of benchmarks/ssps_gain.py; copy them to docs/results/ssps-gain."""
    for folder in sorted({job.folder.parent for job in jobs}):
        mine = [job for job in jobs if job.folder.parent == folder]
        if any(job.done and job.tests for job in mine):
            corpus, family = folder.parents[1].name, folder.name
            name = f"{corpus}-{family}-{mine[0].recipe.seed}"
            write_json(out / "ssps-gain" / f"{name}.json", ssps_gain.record(mine))


STEPS = {
    "peak": step_peak,
    "right": step_right,
    "sizes": step_sizes,
    "speed": step_speed,
    "prepare": step_prepare,
    "study": step_study,
}


def main() -> None:
    """Run one step."""
    parser = parser_of(__doc__)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument(
        "--jobs", type=int, default=6, help="runs of the study that are trained at the same time"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the study's numbers of epochs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"--- {args.step}", flush=True)
    STEPS[args.step](args, Notes(args), torch.device(args.device))


if __name__ == "__main__":
    main()
