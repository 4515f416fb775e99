"""An interrupted run ends with the same bits as an uninterrupted one, wherever it was interrupted."""

from __future__ import annotations

import csv
import errno
import io
import itertools
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from idemvox.errors import IdemvoxError
from idemvox.frameworks.dino import DINO
from idemvox.frameworks.simclr import SimCLR
from idemvox.model import load_model
from idemvox.positives.queue import EmbeddingQueue
from idemvox.positives.ssps import SSPS
from idemvox.recipe import Recipe, Training
from idemvox.training.fitters import gradient
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.state import saving
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint
from idemvox.training.state.saving import Saver, Stop
from idemvox.training.watch.gauges import Log

CLOCK = {"time", "utterances_per_second", "waiting_for_audio"}  # differs between any two runs


class Killed(Exception):
    """Stands for kill -9: nothing in the package catches it."""


def flat(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` of a state."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from flat(value, f"{at}.{key}")
    else:
        yield at, tree


def left(folder: Path) -> dict[str, Any]:
    """Return everything that a run writes, by name, except values read from the clock."""
    found = dict(flat(load_checkpoint(last_checkpoint(folder / "checkpoints"))))
    found |= {name: (folder / "model" / name).read_bytes() for name in ("model.safetensors",)}
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    for number, event in enumerate(e for e in map(json.loads, lines) if e["event"] in ("step", "epoch")):
        found |= {f"log.{number}.{key}": value for key, value in event.items()}
    return {k: v for k, v in found.items() if k.rpartition(".")[2] not in CLOCK}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        same = torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        assert same, name


def quiet(recipe: Recipe, folder: Path, resume: bool = False) -> Any:
    return train(recipe, folder, resume=resume, progress=False)


@pytest.fixture(scope="module")
def make(tiny_recipe) -> Callable[..., Recipe]:
    """A recipe of three fill batches and two epochs of three steps, with a queue of ten."""

    def made(framework: str, *changes: str) -> Recipe:
        return tiny_recipe(
            "positives.queue=10",
            "training.save_steps=2",
            "training.clip=3.0",
            *changes,
            framework=framework,
            positives="ssps",
            labelled=True,
        )

    return made


@pytest.fixture(scope="module")
def whole(make, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """What an uninterrupted run writes."""
    done: dict[tuple[str, ...], dict[str, Any]] = {}

    def left_by(*words: str) -> dict[str, Any]:
        if words not in done:
            folder = tmp_path_factory.mktemp("whole")
            quiet(make(*words), folder)
            done[words] = left(folder)
        return done[words]

    return left_by


# -- interrupted anywhere ----------------------------------------------------------------------


@pytest.mark.parametrize(("framework", "refresh"), [("simclr", "false"), ("dino", "true")])
def test_interrupted_at_every_kind_of_moment_it_ends_with_the_same_bits(
    make, whole, tmp_path, monkeypatch, framework, refresh
):
    words = (framework, f"positives.refresh={refresh}")
    recipe, calls = make(*words), Counter()
    at: tuple[str, int] = ("", 0)

    def spy(owner: Any, name: str) -> None:
        inside = getattr(owner, name)

        def outside(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            if at == (name, calls[name]):
                raise Killed
            result = inside(*args, **kwargs)
            if at == (name, -calls[name]):
                raise Killed
            return result

        monkeypatch.setattr(owner, name, outside)

    spy(EmbeddingQueue, "push")
    spy(SSPS, "start_epoch")
    spy({"simclr": SimCLR, "dino": DINO}[framework], "after_step")
    spy(torch, "save")
    spy(saving, "save_checkpoint")
    steps = 0
    for at in (  # a number below 0: after that call
        ("push", 3),  # in the fill pass, after its checkpoint of two batches
        ("start_epoch", -1),  # after its end and k-means
        ("after_step", 2),
        ("save", 1),  # of two steps
        ("save_checkpoint", -1),  # again, and written
        ("save_checkpoint", -1),  # of the epoch
        ("after_step", 2),
        ("save_checkpoint", -1),  # in the second epoch's fill pass, or after two of its steps
        ("after_step", 1),
        ("", 0),
    ):
        calls.clear()
        with pytest.raises(Killed) if at[0] else nullcontext():
            quiet(recipe, tmp_path, resume=True)
        steps += calls["after_step"]
    assert steps == 13  # 6, and those that were lost and repeated; no epoch started over
    assert_same(left(tmp_path), whole(*words))


def attempt(recipe: Recipe, folder: Path) -> None:
    """Train; runs in a process of its own."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))  # the fork server was started before this test
    quiet(recipe, folder, resume=True)


def process(recipe: Recipe, folder: Path) -> multiprocessing.process.BaseProcess:
    """Start a process that trains, with its imports already done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["idemvox.training.loop"])
    found = context.Process(target=attempt, args=(recipe, folder))
    found.start()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "kills"), [("simclr", 4), ("dino", 3), ("cel", 3)])
def test_a_process_killed_at_random_moments_ends_with_the_same_bits(make, whole, tmp_path, framework, kills):
    recipe, rng = make(framework), random.Random(1)
    for logged in sorted(rng.sample(range(7), kills)):  # of 8 lines in all
        killed = process(recipe, tmp_path)
        while killed.is_alive() and lines(tmp_path) < logged:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        killed.kill()
        killed.join()
        assert killed.exitcode == -signal.SIGKILL
    last = process(recipe, tmp_path)
    last.join()
    assert last.exitcode == 0
    assert_same(left(tmp_path), whole(framework))


def lines(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


# -- asked to stop ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_command_asked_to_stop_saves_reports_it_and_resumes(make, whole, tmp_path):
    make("simclr", "training.save_steps=null").save(tmp_path / "tiny.yaml")
    words = [sys.executable, "-m", "idemvox.cli", "train", str(tmp_path / "tiny.yaml")]
    words += ["--out", str(tmp_path / "run"), "--resume", "-q"]
    environment = os.environ | {"COLUMNS": "300"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as command:
        while command.poll() is None and lines(tmp_path / "run") < 1:
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        output, _ = command.communicate(timeout=120)
    assert command.returncode == 130
    saved = last_checkpoint(tmp_path / "run" / "checkpoints")
    assert f"stopped; everything is saved in {saved}, --resume resumes from there" in output
    assert not (tmp_path / "run" / "model").exists()
    quiet(make("simclr"), tmp_path / "run", resume=True)
    assert_same(left(tmp_path / "run"), whole("simclr"))


@pytest.mark.slow
def test_a_terminated_process_saves_and_exits_like_any_other(make, tmp_path):
    ended = process(make("simclr", "training.save_steps=null"), tmp_path)
    while ended.is_alive() and lines(tmp_path) < 1:
        time.sleep(0.002)
    ended.terminate()
    ended.join()
    assert ended.exitcode == -signal.SIGTERM
    assert "-step-" in last_checkpoint(tmp_path / "checkpoints").name


def test_a_second_signal_does_not_wait():
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.listening():
        signal.raise_signal(signal.SIGINT)
        assert stop.asked  # and continued
        signal.raise_signal(signal.SIGINT)
        raise AssertionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_asked_too_late_it_still_exits_by_the_signal():
    with pytest.raises(KeyboardInterrupt), Stop().listening():
        signal.raise_signal(signal.SIGINT)


def test_an_error_while_stopping_is_not_hidden():
    with pytest.raises(IdemvoxError, match="full"), Stop().listening():
        signal.raise_signal(signal.SIGTERM)
        raise IdemvoxError("the disk is full")


def test_signal_handlers_of_others_are_not_changed(monkeypatch):
    heard = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with (stop := Stop()).listening():
            signal.raise_signal(signal.SIGTERM)
            assert heard == [signal.SIGTERM] and not stop.asked
    finally:
        signal.signal(signal.SIGTERM, previous)
    thread = threading.Thread(target=lambda: heard.append(Stop().listening().__enter__()))
    thread.start()
    thread.join()
    assert heard[1:] == [None]  # not in the main thread, which alone may handle signals


# -- when checkpoints are saved -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "steps", "saved"), [(10, None, []), (10, 2, [2, 4]), (1.5, None, [2, 4])]
)
def test_within_an_epoch_it_is_saved_by_time_or_by_steps(tmp_path, monkeypatch, minutes, steps, saved):
    clock = itertools.count(0.0, 60.0)  # a minute passes whenever it is looked at
    monkeypatch.setattr(saving.time, "monotonic", lambda: next(clock))
    saver = Saver(
        tmp_path, Training(save_minutes=minutes, save_steps=steps, keep=9), Stop(), torch.device("cpu")
    )
    for step in range(1, 5):
        saver.pause(Console(), 3, dict, ("step", step))
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"epoch-0003-step-{n:06d}.ckpt" for n in saved]
    saver.pause(Console(), 4, dict)
    assert last_checkpoint(tmp_path).name == "epoch-0004.ckpt"


def test_the_newest_checkpoints_are_kept_and_as_many_of_whole_epochs(tmp_path):
    order = [
        (0, ("fill", 7)),
        (0, ("step", 5)),
        (0, ("step", 1000000)),
        (1, None),
        (1, ("fill", 9)),
        (1, ("step", 2)),
    ]
    for epoch, within in [*order, (2, None), (2, ("step", 3)), (2, ("step", 12))]:
        assert save_checkpoint(tmp_path, epoch, {}, 2, within) == last_checkpoint(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "epoch-0001.ckpt",
        "epoch-0002-step-000003.ckpt",
        "epoch-0002-step-000012.ckpt",
        "epoch-0002.ckpt",
    ]


# -- damaged checkpoints --------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(make, tmp_path_factory) -> Path:
    """A run killed after its second epoch was logged and before the checkpoint was written."""
    folder, save = tmp_path_factory.mktemp("killed"), saving.save_checkpoint

    def last(where: Path, epoch: int, *rest: Any) -> Path:
        if epoch == 2:
            raise Killed
        return save(where, epoch, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(saving, "save_checkpoint", last)
        quiet(make("simclr"), folder)
    found = sorted(p.name for p in (folder / "checkpoints").iterdir())
    assert found == ["epoch-0001-step-000002.ckpt", "epoch-0001.ckpt"]
    return folder


@pytest.fixture
def broken(killed, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(killed, tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def of_another(path: Path) -> None:
    torch.save({"model": torch.zeros(3)}, path)


def of_another_run(path: Path) -> None:
    state = load_checkpoint(path)
    state["recipe"]["seed"] = 4
    torch.save(state, path)


def of_a_newer(path: Path) -> None:
    torch.save(load_checkpoint(path) | {"format": 99}, path)


def of_fewer_utterances(path: Path) -> None:
    torch.save(load_checkpoint(path) | {"utterances": 23}, path)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (cut, "it is damaged"),
        (flip, "it is damaged"),
        (of_another, "is not from a run of idemvox (it has no done, first, framework, optimizer, positives)"),
        (of_another_run, "is of another run: its recipe differs in seed"),
        (of_a_newer, "has format 99, this idemvox reads up to 1"),
        (of_fewer_utterances, "is of 23 utterances"),
    ],
)
def test_damaged_or_foreign_checkpoints_are_skipped_and_named(make, whole, broken, caplog, harm, reason):
    """Only for the first of them is training run to its end."""
    newest = last_checkpoint(broken / "checkpoints")
    harm(newest)
    with caplog.at_level(logging.WARNING):
        if harm is cut:
            quiet(make("simclr"), broken, resume=True)
            assert_same(left(broken), whole("simclr"))
        else:
            run = Run(make("simclr"))
            run.resume(broken / "checkpoints")
            assert (run.done, run.place.steps) == (1, 0)
    assert f"skipped: checkpoint {newest}" in caplog.text and reason in caplog.text


def test_when_all_checkpoints_are_damaged_it_does_not_start_over(make, broken):
    for path in (broken / "checkpoints").iterdir():
        cut(path)
    with pytest.raises(IdemvoxError, match=r"none of the 2 checkpoints in .*delete them to start over"):
        quiet(make("simclr"), broken, resume=True)


def test_unfinished_files_of_a_killed_run_are_removed(make, broken):
    part = broken / "checkpoints" / ".epoch-0002.ckpt.abc.part"
    part.write_bytes(b"half")
    quiet(make("simclr"), broken, resume=True)
    assert not part.exists()


def test_the_model_of_fewer_epochs_is_replaced(make, whole, tmp_path, monkeypatch):
    """One epoch is finished; another is killed before its model is written."""
    quiet(make("simclr", "training.epochs=1"), tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(gradient, "save_run", lambda *args, **more: (_ for _ in ()).throw(Killed))
        quiet(make("simclr"), tmp_path, resume=True)
    quiet(make("simclr"), tmp_path, resume=True)
    assert load_model(tmp_path).provenance["epochs"] == 2
    mine, other = left(tmp_path), whole("simclr")
    assert mine["model.safetensors"] == other["model.safetensors"]


# -- a full disk ------------------------------------------------------------------------------


class Full(io.FileIO):
    """A file on a disk with room for 64 KiB."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1 << 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_keeps_the_last_checkpoint_and_names_the_disk(make, whole, broken, monkeypatch):
    before = last_checkpoint(broken / "checkpoints")
    with monkeypatch.context() as patch:
        plain = os.fdopen
        patch.setattr(os, "fdopen", lambda fd, mode, **k: (Full if mode == "wb" else plain)(fd, mode, **k))
        with pytest.raises(IdemvoxError, match=r"is full.*free some space there") as caught:
            quiet(make("simclr"), broken, resume=True)
    mount = next(p for p in broken.parents if p.is_mount())
    assert f"mounted at {mount}," in str(caught.value)
    assert f"--resume resumes from {before}" in str(caught.value)
    assert last_checkpoint(broken / "checkpoints") == before
    assert not [p for p in broken.rglob("*") if p.suffix == ".part"]
    quiet(make("simclr"), broken, resume=True)
    assert_same(left(broken), whole("simclr"))


def test_a_log_that_cannot_be_written_is_reported(make, tmp_path, monkeypatch):
    def full(self: Log, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Log, "write", full)
    with pytest.raises(IdemvoxError, match=r"its disk, mounted at .*, is full"):
        quiet(make("simclr"), tmp_path)


# -- logs -------------------------------------------------------------------------------------


def test_every_step_is_logged_exactly_once(make, whole, broken):
    """Lines logged after the last checkpoint are not repeated, and a line that was cut off is removed."""
    with (broken / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "st')
    quiet(make("simclr"), broken, resume=True)
    events = [json.loads(line) for line in (broken / "log.jsonl").read_text().splitlines()]
    assert [e["step"] for e in events if e["event"] == "step"] == list(range(6))
    assert [e["step"] for e in events if e["event"] == "epoch"] == [2, 5]
    board = EventAccumulator(str(broken / "tensorboard")).Reload()
    assert [e.step for e in board.Scalars("step/loss")] == list(range(6))
    assert [e.step for e in board.Scalars("epoch/loss")] == [2, 5]
    with (broken / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    epochs = [e for e in events if e["event"] == "epoch"]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row, epoch in zip(rows, epochs, strict=True):
        known = {key: value for key, value in row.items() if value and key != "epoch"}
        assert known.keys() == epoch.keys() - {"epoch", "event", "at"}
        assert all(float(value) == epoch[key] for key, value in known.items())
