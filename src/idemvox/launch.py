"""Work by several processes that form a process group: started here, or by torchrun."""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import distributed as dist
from torch.multiprocessing.spawn import start_processes

from idemvox import errors
from idemvox.errors import IdemvoxError, RunError

__all__ = ["run_on"]

R = TypeVar("R")


def run_on(
    devices: int,
    work: Callable[[], R],
    *,
    gpus: bool,
    backend: str | None = None,
    timeout: timedelta | None = None,
) -> R | None:
    """Call ``work`` in several processes, which form a process group; return what it returns in rank 0.

    Args:
        devices: number of processes: GPUs, or parts of a CPU; 1 calls ``work`` in this process. Under
            ``torchrun`` this process is one of them, whatever ``devices`` is.
        work: can be pickled, as a function of a module and a ``partial`` of one can; so can its result.
        gpus: whether each process gets a GPU of its own.
        backend: ``gloo`` exchanges tensors on the CPU; ``None``: ``nccl`` on GPUs, else ``gloo``.
        timeout: how long a process waits for the others; ``None``: as torch does.

    Returns:
        The result of rank 0; ``None`` in those processes of ``torchrun`` that are another rank.

    Raises:
        IdemvoxError: work failed in one of the processes; the others are terminated.
    """
    joined = _Joined(gpus, backend or ("nccl" if gpus else "gloo"), timeout)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        with joined.group("env://", int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])):
            result = work()
            return result if dist.get_rank() == 0 else None
    if devices == 1:
        return work()
    if gpus and devices > (have := torch.cuda.device_count()):
        raise RunError(f"--devices {devices}, but torch sees only {have} GPUs; give at most {have}")
    with tempfile.TemporaryDirectory() as meeting:
        job = _Job(devices, work, joined, Path(meeting))
        terminated = _start(job)
        done = job.result.exists()
        found: R | None = pickle.loads(job.result.read_bytes()) if done else None  # our own process wrote it
    if terminated:
        os.kill(os.getpid(), signal.SIGTERM)  # so that the parent sees which signal ended this process
    if not done:  # the processes were stopped by a signal that this one did not get
        raise KeyboardInterrupt
    return found


@dataclass(frozen=True)
class _Joined:
    """How processes join a group."""

    gpus: bool
    backend: str
    timeout: timedelta | None

    @contextmanager
    def group(self, store: str, rank: int, world: int) -> Iterator[None]:
        """Join the process group."""
        if self.gpus:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group(
            self.backend, init_method=store, rank=rank, world_size=world, timeout=self.timeout
        )
        try:
            yield
        finally:
            dist.destroy_process_group()


@dataclass(frozen=True)
class _Job(Generic[R]):
    """The work of all processes.

    Attributes:
        meeting: folder for the processes' meeting, errors and result.
    """

    devices: int
    work: Callable[[], R]
    joined: _Joined
    meeting: Path

    @property
    def result(self) -> Path:
        """File with rank 0's result."""
        return self.meeting / "result"


def _start(job: _Job[Any]) -> bool:
    """Start the processes, wait until all have ended, and return whether this one was told to terminate."""
    processes: Any = start_processes(_one, (job,), job.devices, join=False)
    with _passed_on(processes.processes) as terminated:
        try:
            while not processes.join():
                pass
        except KeyboardInterrupt:  # the processes got the signal too, and save their state
            for process in processes.processes:
                process.join()
            raise
        except Exception as error:
            found = list(job.meeting.glob("error-*"))
            if found:  # the first one may be the reason for others
                first = min(found, key=lambda file: file.stat().st_mtime_ns)
                kind, _, message = first.read_text(encoding="utf-8").partition("\n")
                raise getattr(errors, kind)(message) from error
            if not terminated:
                raise
        finally:
            for file in processes.error_files:  # torch leaves them in the temporary folder
                Path(file).unlink(missing_ok=True)
    return bool(terminated)


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


def _one(rank: int, job: _Job[Any]) -> None:
    """Work as one of the processes."""
    os.environ["LOCAL_RANK"] = str(rank)
    if not job.joined.gpus and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // job.devices))
    with job.joined.group(f"file://{job.meeting / 'store'}", rank, job.devices):
        try:
            result = job.work()
        except IdemvoxError as error:  # before the others see that this process leaves the group
            (job.meeting / f"error-{rank}").write_text(f"{type(error).__name__}\n{error}", encoding="utf-8")
            raise
    if rank == 0:
        job.result.write_bytes(pickle.dumps(result))
