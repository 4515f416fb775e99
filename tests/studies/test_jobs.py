from __future__ import annotations

import json
from pathlib import Path

import pytest

from idemvox.studies.jobs import Job, run_jobs
from idemvox.training.watch.curves import read_log


@pytest.mark.slow
def test_a_job_waits_for_its_base(tiny_recipe, tmp_path):
    """Even if it is listed first; finished jobs are not run again."""
    first = Job(tmp_path / "first", tiny_recipe("training.epochs=2"), ())
    after = Job(tmp_path / "after", tiny_recipe(f"start_from={first.folder}", "training.epochs=1"), ())
    run_jobs([after, first], 2, progress=False)
    assert read_log(after.folder / "log.jsonl")[-1]["at"] == 3
    assert [job.so_far() for job in (first, after)] == [(2, ""), (1, "")]
    before = first.folder.joinpath("done.json").stat().st_mtime_ns
    run_jobs([after, first], 2, progress=False)
    assert first.folder.joinpath("done.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("begun", [0, 4])
def test_a_running_job_reports_its_progress(tiny_recipe, tmp_path: Path, begun):
    job = Job(tmp_path, tiny_recipe("training.epochs=3"), ())
    assert job.so_far() == (0, "")
    events = [
        {"event": "mixture"},
        {"at": begun + 0.25, "loss": 2.0},
        {"at": begun + 1.5, "loss": 1.25},
        {"at": begun + 2},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"at": 9')
    assert job.so_far() == (2, "tiny loss 1.25")
