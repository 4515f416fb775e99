"""Training in several processes, one per device."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing
from torch.multiprocessing.spawn import start_processes

from idemvox import errors
from idemvox.errors import IdemvoxError, RunError
from idemvox.recipe import Recipe
from idemvox.training.fitters.base import Trained
from idemvox.training.loop import train

__all__ = ["train_on"]


def train_on(devices: int, recipe: Recipe, folder: Path, **options: Any) -> Trained | None:
    """Train a recipe like :func:`~idemvox.training.loop.train`, in several processes.

    The processes share a batch, so a recipe means the same on one device and on eight; losses equal those of
    one process up to the order of sums.

    Args:
        devices: number of processes: GPUs, or parts of a CPU. Under ``torchrun`` this process is one of them.
        recipe: the recipe.
        folder: run folder; only rank 0 writes to it.
        options: ``resume``, ``progress``.

    Returns:
        The result of training; ``None`` in those processes of ``torchrun`` that write nothing.

    Raises:
        IdemvoxError: training failed in one of the processes; the others are terminated.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with _group(recipe, "env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])):
            trained = train(recipe, folder, **options)
            return trained if dist.get_rank() == 0 else None
    if devices == 1:
        return train(recipe, folder, **options)
    _check(devices, recipe)
    with tempfile.TemporaryDirectory() as meeting:
        results = multiprocessing.get_context("spawn").SimpleQueue()
        job = _Job(devices, recipe, folder, options, Path(meeting))
        processes: Any = start_processes(_one, (job, results), devices, join=False)
        with _passed_on(processes.processes) as terminated:
            try:
                while not processes.join():
                    pass
            except KeyboardInterrupt:  # the processes got the signal too, and save their state
                for process in processes.processes:
                    process.join()
                raise
            except Exception as error:
                errors_found = sorted(job.meeting.glob("error-*"))
                if errors_found:
                    kind, _, message = errors_found[0].read_text(encoding="utf-8").partition("\n")
                    raise getattr(errors, kind)(message) from error
                if not terminated:
                    raise
            finally:
                for file in processes.error_files:  # torch leaves them in the temporary folder
                    Path(file).unlink(missing_ok=True)
        done: Trained | None = None if results.empty() else results.get()
    if terminated:
        os.kill(os.getpid(), signal.SIGTERM)  # so that the parent sees which signal ended this process
    if done is None:  # the processes were stopped by a signal that this one did not get
        raise KeyboardInterrupt
    return done


@contextmanager
def _passed_on(processes: Sequence[BaseProcess]) -> Iterator[list[int]]:
    """Forward SIGTERM to the processes, which then save and stop; yield a list of the signals received."""
    got: list[int] = []

    def forward(number: int, frame: object) -> None:
        got.append(number)
        for process in processes:
            process.terminate()

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield got
        return
    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield got
    finally:
        signal.signal(signal.SIGTERM, before)


def _check(devices: int, recipe: Recipe) -> None:
    gpus = torch.cuda.device_count()
    if recipe.training.device != "cpu" and gpus and devices > gpus:
        raise RunError(f"--devices {devices}, but torch sees only {gpus} GPUs; give at most {gpus}")


@dataclass(frozen=True)
class _Job:
    devices: int
    recipe: Recipe
    folder: Path
    options: dict[str, Any]
    meeting: Path


def _one(rank: int, job: _Job, results: Any) -> None:
    """Train as one of the processes."""
    os.environ["LOCAL_RANK"] = str(rank)
    if not _on_gpus(job.recipe):
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.devices))
    try:
        with _group(job.recipe, f"file://{job.meeting / 'store'}", rank, job.devices):
            trained = train(job.recipe, job.folder, **job.options)
        if rank == 0:
            results.put(trained)
    except IdemvoxError as error:
        (job.meeting / f"error-{rank}").write_text(f"{type(error).__name__}\n{error}", encoding="utf-8")
        raise


def _on_gpus(recipe: Recipe) -> bool:
    return recipe.training.device in ("auto", "cuda") and torch.cuda.is_available()


@contextmanager
def _group(recipe: Recipe, store: str, rank: int, world: int) -> Iterator[None]:
    """Join the process group."""
    backend = "gloo"
    if _on_gpus(recipe):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()
