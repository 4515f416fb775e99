from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from idemvox.processes import process_pool, read_ahead


def test_an_error_ends_the_workers_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), process_pool(1) as pool:
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30


def test_processes_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from idemvox.processes import process_pool\n"
        "if __name__ == '__main__':\n"
        "    with process_pool(2) as pool:\n"
        "        list(pool.map(time.sleep, [0.2] * 4))\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.communicate(timeout=30)  # the pipe ends when the last process that holds it does


# -- reading ahead ----------------------------------------------------------------------------


@pytest.mark.parametrize(("workers", "ahead"), [(0, 0), (1, 1), (3, 2), (2, 99)])
def test_results_of_reading_ahead_come_in_order(workers, ahead):
    first = threading.Event()

    def read(job: int) -> int:
        if job == 0 and min(workers, ahead) > 1:
            assert first.wait(30)  # the second is done before the first
        first.set()
        return job * job

    assert list(read_ahead(read, range(20), workers, ahead)) == [n * n for n in range(20)]


@pytest.mark.parametrize(
    ("ahead", "most", "expected"),
    [(1, 0, [1, 2, 3, 4]), (3, 0, [3, 4, 4, 4]), (9, 5, [2, 2, 4, 4]), (9, 1, [1, 2, 3, 4])],
)
def test_no_more_is_read_ahead_than_allowed(ahead, most, expected):
    """Weights 2, 3, 4 and 1; a job that is heavier than allowed goes alone."""
    asked, weights = [], {0: 2, 1: 3, 2: 4, 3: 1}
    limits = {"weigh": weights.__getitem__, "most": most} if most else {}

    def jobs():
        for job in range(4):
            yield job
            asked.append(job)  # when the next one is asked for, this one has been handed to a thread

    counts = []
    for _ in read_ahead(lambda job: job, jobs(), 2, ahead, **limits):
        counts.append(len(asked))
    assert counts == expected


def test_an_error_is_raised_in_place_of_its_result_and_ends_the_threads():
    begun = []
    others = set(threading.enumerate())  # of failed runs whose tracebacks still hold them

    def read(job: int) -> float:
        begun.append(job)
        return 6 / (3 - job)

    reading, found = read_ahead(read, itertools.count(), 1, 4), []
    with pytest.raises(ZeroDivisionError):
        for value in reading:
            found.append(value)
    assert found == [2.0, 3.0, 6.0] and max(begun) <= 7
    assert not [t for t in set(threading.enumerate()) - others if t.name.startswith("reader")]


def test_closing_cancels_waiting_jobs_and_stops_running_ones():
    stop, begun = threading.Event(), []

    def read(job: int) -> int:
        begun.append(job)
        if job:
            assert stop.wait(30)
        return job

    reading = read_ahead(read, range(9), 1, 5, stop=stop)
    assert next(reading) == 0 and not stop.is_set()
    reading.close()
    assert stop.is_set() and begun in ([0], [0, 1])
