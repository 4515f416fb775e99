"""How long a run will take, said early and by what was measured."""

from __future__ import annotations

import io
import itertools
import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.state.progress import Place
from idemvox.training.watch import forecast as module
from idemvox.training.watch.forecast import Forecast, span


class Clock:
    """Time that passes when it is told to; the processor is busy on both cores."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 2 * self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def passed(forecast: Forecast, clock: Clock, phase: str, *seconds: float) -> None:
    forecast.begin()
    for each in seconds:
        clock.now += each
        forecast.tick(phase)


def test_the_first_of_a_phase_counts_only_while_it_is_the_only_one(clock):
    forecast = Forecast(True)
    passed(forecast, clock, "clustering", 7.0)
    clock.now += 100  # between phases
    passed(forecast, clock, "training", 9.0, 1.0, 3.0)
    assert forecast.seconds({"filling": 5, "clustering": 2, "training": 10}) == {
        "clustering": 14.0,
        "training": 20.0,
    }


def test_it_is_said_once_within_the_first_minute_of_training(clock):
    forecast = Forecast(True)
    passed(forecast, clock, "filling", 300.0)
    assert not forecast.settled
    passed(forecast, clock, "training", 5.0)
    steps = itertools.takewhile(lambda _: not forecast.settled, itertools.count(1))
    for _ in steps:
        passed(forecast, clock, "training", 2.0)
    assert clock.now == 300 + 21  # 20 seconds, whole steps of them
    forecast.say({"training": 1}, None)
    passed(forecast, clock, "training", 99.0)
    assert not forecast.settled


def test_a_single_long_step_is_not_enough(clock):
    forecast = Forecast(True)
    passed(forecast, clock, "training", 50.0)  # the first one, which compiles and warms up
    assert not forecast.settled


@pytest.mark.parametrize(
    ("processes", "gpus", "hours"),
    [(1, True, "2.5 GPU-hours"), (4, True, "10 GPU-hours"), (1, False, "5 CPU-hours")],
)
def test_what_it_says(clock, monkeypatch, processes, gpus, hours):
    monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda: datetime(2026, 3, 9, 22, 0)))
    monkeypatch.setattr(module.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(module.dist, "get_world_size", lambda: processes)
    forecast, said = Forecast(gpus), io.StringIO()
    passed(forecast, clock, "training", 9.0, 10.0, 10.0)
    forecast.say({"training": 900}, Console(file=said, width=200))
    assert said.getvalue() == f"about 2.5 h to go, until 00:30: {hours}\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(99, "99 s"), (101, "2 min"), (6001, "1.7 h"), (172_801, "2.0 days")]
)
def test_spans(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(("refresh", "passes"), [("false", 1), ("true", 2)])
def test_what_is_left_is_counted_as_it_comes(tiny_recipe, refresh, passes):
    """Two epochs of three steps, with a pass of three batches before one or both."""
    run = Run(tiny_recipe(f"positives.refresh={refresh}", positives="ssps"))
    assert run.left() == {"filling": 3 * passes, "clustering": 2, "training": 6}
    run.place = Place(filled=2)
    assert run.left() == {"filling": 3 * passes - 2, "clustering": 2, "training": 6}
    run.place, run.filled = Place(filled=3, steps=1), True
    assert run.left() == {"filling": 3 * (passes - 1), "clustering": 1, "training": 5}
    run.done, run.place = 1, Place()
    assert run.left() == {"filling": 3 * (passes - 1), "clustering": 1, "training": 3}
    assert Run(tiny_recipe()).left() == {"filling": 0, "clustering": 0, "training": 6}


def test_a_run_says_and_logs_it(tiny_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "SETTLED", 0.0)
    recipe = tiny_recipe("positives.refresh=true", positives="ssps")
    train(recipe, tmp_path / "told", progress=True)
    assert capsys.readouterr().out.count(" to go, until ") == 1
    train(recipe, tmp_path / "quiet", progress=False)
    assert " to go, until " not in capsys.readouterr().out
    for name in ("told", "quiet"):
        (event,) = [e for e in events(tmp_path / name) if e["event"] == "forecast"]
        assert event["step"] == 1  # as soon as there was a second
        assert all(event[phase] > 0 for phase in ("filling", "clustering", "training"))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
