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
    """Yield what ``read`` makes of each job, in their order, while threads read the next ones.

    When it is closed, or a job has failed, jobs that have not begun are cancelled and the others waited for.

    >>> list(read_ahead(str.upper, ["a", "b"], workers=2, ahead=4))
    ['A', 'B']

    Args:
        read: called in a thread; what it raises is raised where its result would have come.
        jobs: asked for in this thread.
        workers: threads, at least one.
        ahead: jobs under way or done at a time, at least one: with 1, each is read when it is asked for.
        weigh: how heavy a job is, for instance in samples.
        most: weight of the jobs under way or done at a time; a single one may be heavier.
        stop: set as soon as it is closed, so that a ``read`` that looks at it may end early.
    """
    flying: deque[tuple[Future[R], float]] = deque()
    heavy = 0.0
    with ThreadPoolExecutor(max(workers, 1), "reader") as pool:
        try:
            for job in jobs:
                weight = weigh(job)
                while flying and (len(flying) >= ahead or heavy + weight > most):
                    future, part = flying.popleft()
                    heavy -= part
                    yield future.result()
                flying.append((pool.submit(read, job), weight))
                heavy += weight
            while flying:
                yield flying.popleft()[0].result()
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
