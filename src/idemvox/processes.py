"""The command line of this process, and worker processes that always end with their parent."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = ["command_line", "process_pool"]


def command_line() -> str:
    """Return the command that started this process (in a worker, its parent), to record with results."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


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
