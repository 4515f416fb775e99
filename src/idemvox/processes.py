"""The command line of this process, threads that read ahead, and workers that end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

__all__ = ["command_line", "process_pool", "read_ahead"]

J = TypeVar("J")
R = TypeVar("R")


def command_line() -> str:
    """Return the command that started this process (in a worker, its parent), to record with results."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def read_ahead(
    read: Callable[[J], R],
    jobs: Iterable[J],
    workers: int,
    ahead: int,
    *,
    weigh: Callable[[J], float] = lambda job: 0.0,
    most: float = 0.0,
    stop: threading.Event | None = None,
) -> Generator[R, None, None]:
    """Yield ``read(job)`` for each job, in order, while threads read the next ones.

    If it is closed or a job fails, jobs that have not started are cancelled, and running ones are awaited.

    >>> list(read_ahead(str.upper, ["a", "b"], workers=2, ahead=4))
    ['A', 'B']

    Args:
        read: called in a thread; its exceptions are raised in place of its result.
        jobs: iterated in this thread.
        workers: number of threads, at least one.
        ahead: most jobs running or finished at a time, at least one; with 1, each is read when it is needed.
        weigh: weight of a job, for example in samples.
        most: most weight of the jobs running or finished at a time; a single job may weigh more.
        stop: set as soon as the generator is closed, so that a ``read`` that checks it can end early.
    """
    pending: deque[tuple[Future[R], float]] = deque()
    held = 0.0
    with ThreadPoolExecutor(max(workers, 1), "reader") as pool:
        try:
            for job in jobs:
                weight = weigh(job)
                while pending and (len(pending) >= ahead or held + weight > most):
                    future, released = pending.popleft()
                    held -= released
                    yield future.result()
                pending.append((pool.submit(read, job), weight))
                held += weight
            while pending:
                yield pending.popleft()[0].result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            if stop is not None:
                stop.set()
            raise


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of fresh processes that end with the block.

    After an error or Ctrl-C in the block they are terminated at once. A worker whose parent was killed ends
    by itself. Workers ignore Ctrl-C; the parent handles it.

    Args:
        workers: number of processes; each starts with nothing imported, so a script needs a ``__main__``
            guard.
    """
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin)
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


def _begin() -> None:
    """Ignore Ctrl-C, and end this process as soon as its parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
