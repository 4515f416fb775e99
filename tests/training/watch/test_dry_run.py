"""A dry run goes through every phase twice, and leaves nothing."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.frameworks.simclr import SimCLR
from idemvox.positives.ssps import SSPS
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.watch import dry_run as rehearsal
from idemvox.training.watch.dry_run import rehearse


@pytest.fixture
def scratch(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def calls(monkeypatch) -> Counter[str]:
    """How often a few things are done."""
    counted: Counter[str] = Counter()

    def spy(owner: type, name: str) -> None:
        inside = getattr(owner, name)

        def outside(self, *args, **kwargs):
            counted[name] += 1
            return inside(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, outside)

    for owner, name in (
        (SimCLR, "after_step"),
        (SimCLR, "target"),
        (SSPS, "start_epoch"),
        (SSPS, "_cluster"),
    ):
        spy(owner, name)
    return counted


@pytest.mark.parametrize(("refresh", "passes"), [("false", 1), ("true", 2)])
def test_two_steps_of_every_phase(tiny_recipe, scratch, calls, refresh, passes):
    """24 utterances in batches of 4: 6 batches a pass, 6 steps an epoch."""
    recipe = tiny_recipe("training.batch=4", f"positives.refresh={refresh}", positives="ssps")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "_embed_two", lambda run: seen.append(run.positives) or 0.5)
        found = rehearse(recipe)
    assert calls == {"target": 2 + 2, "start_epoch": 1, "_cluster": 1, "after_step": 2}
    assert {p.name: p.units for p in found.phases} == {
        "filling": 6 * passes,
        "clustering": 2,
        "training": 12,
        "evaluation": 1000,
    }
    assert seen[0].seen.all() and (seen[0].assignment < seen[0].clusters).all()  # k-means was of all
    assert all(p.each > 0 and p.memory > 1 << 20 and p.seconds == p.each * p.units for p in found.phases)
    assert "in all: " in found.text and "CPU-hours" in found.text
    assert not list(scratch.iterdir())


def test_a_recipe_without_a_queue_has_fewer_phases(tiny_recipe, scratch):
    found = rehearse(tiny_recipe("training.batch=12"))  # two steps are all there are
    assert [p.name for p in found.phases] == ["training", "evaluation"]
    assert all(math.isfinite(p.seconds) for p in found.phases) and not list(scratch.iterdir())


@pytest.mark.parametrize("positives", ["nearest_neighbour", "ssps"])
def test_other_samplers_are_rehearsed_too(tiny_recipe, scratch, positives):
    rehearse(tiny_recipe("positives.queue=6", positives=positives, framework="dino"))


def test_it_begins_as_the_run_would(tiny_recipe, tmp_path, monkeypatch):
    source = train(tiny_recipe("training.epochs=1"), tmp_path / "base", progress=False)
    begun, start = [], Run.start_from
    monkeypatch.setattr(Run, "start_from", lambda self, path: begun.append(path) or start(self, path))
    rehearse(tiny_recipe(f"start_from={source.folder}", positives="ssps"))
    assert begun == [source.folder]


def test_full_memory_is_named_in_a_dry_run(tiny_recipe, scratch, monkeypatch):
    def full(self: SimCLR, *args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(SimCLR, "forward", full)
    with pytest.raises(IdemvoxError, match=r"out of memory; lower training\.batch"):
        rehearse(tiny_recipe())
    assert not list(scratch.iterdir())


def test_the_command_prints_a_table_and_leaves_nothing(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_recipe(positives="ssps").save(tmp_path / "tiny.yaml")
    result = CliRunner().invoke(app, ["train", "tiny.yaml", "--dry-run"])
    assert result.exit_code == 0, result.output
    for word in ("filling", "clustering", "training", "evaluation", "memory", "CPU-hours"):
        assert word in result.output
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


def test_it_is_of_one_device(tiny_recipe, tmp_path):
    tiny_recipe().save(tmp_path / "tiny.yaml")
    result = CliRunner().invoke(app, ["train", str(tmp_path / "tiny.yaml"), "--dry-run", "--devices", "4"])
    assert result.exit_code == 1 and "training.batch=2" in str(result.exception)
