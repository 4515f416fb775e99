"""Jobs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from idemvox.studies import jobs


class Here(Executor):
    """Runs what it is given at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


@pytest.fixture(scope="module")
def jobs_here() -> Iterator[None]:
    """Run jobs in this process: to start one takes longer than a tiny job itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "process_pool", lambda workers: Here())
        yield
