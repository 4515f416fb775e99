"""A few threads that do the work, and no more requests at once than can soon be answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from idemvox.service.problems import Problem

__all__ = ["Work"]

R = TypeVar("R")

_LATER = 2  # seconds


class Work:
    """Runs jobs in threads, for a bounded number of requests.

    Args:
        workers: jobs running at once.
        queue: requests that may wait for one of them.
        seconds: within which a job must end, its waiting included. A thread cannot be stopped: the client is
            told, and the job ends by itself.
    """

    def __init__(self, workers: int, queue: int, seconds: float) -> None:
        self._threads = ThreadPoolExecutor(workers, "idemvox-service")
        self._most = workers + queue
        self._seconds = seconds
        self._lock = threading.Lock()
        self.requests = 0
        self.jobs = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request from before its body is read until it is answered; only the event loop calls this.

        Raises:
            Problem: there are too many already, or jobs whose clients no longer wait.
        """
        if max(self.requests, self.jobs) >= self._most:
            raise Problem(503, "busy", f"too many requests at once: try again in {_LATER} s", retry=_LATER)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def run(self, job: Callable[[], R]) -> R:
        """Return what a job returns.

        Raises:
            Problem: it took too long.
        """
        with self._lock:
            self.jobs += 1
        future = self._threads.submit(job)
        future.add_done_callback(self._ended)
        waiting = asyncio.wrap_future(future)
        done, _ = await asyncio.wait([waiting], timeout=self._seconds)
        if done:
            return waiting.result()
        waiting.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        waiting.cancel()  # reaches the job if no thread has begun it
        text = f"not done within {self._seconds:g} s: send less audio, or try again later"
        raise Problem(504, "timeout", text, retry=_LATER)

    def _ended(self, _: Future[Any]) -> None:
        with self._lock:
            self.jobs -= 1

    def close(self) -> None:
        """Wait for the jobs that run."""
        self._threads.shutdown(wait=True, cancel_futures=True)
