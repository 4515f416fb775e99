"""Models that are the mean of a run's last checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.model import load_model
from idemvox.training.loop import train
from idemvox.training.state.averaging import average
from idemvox.training.state.checkpoint import load_checkpoint

CASES = {  # framework -> name of its embedder, labels, further recipe keys
    "simclr": ("encoder.", False, ()),
    "dino": ("teacher.", False, ()),
    "aat": ("encoder.", False, ("framework.similarity=prot",)),
    "finetune": ("encoder.", True, ("framework.loss=adacos",)),
}


@pytest.fixture(scope="module")
def runs(tiny_recipe, tmp_path_factory) -> dict[str, Path]:
    """Runs of three epochs that keep all checkpoints, also those within epochs."""
    made = {}
    for name, (_, labelled, more) in CASES.items():
        recipe = tiny_recipe(
            "training.epochs=3",
            "training.keep=3",
            "training.save_steps=2",
            *more,
            framework=name,
            labelled=labelled,
        )
        made[name] = train(recipe, tmp_path_factory.mktemp(name), progress=False).folder
    return made


def states(run: Path) -> list[dict[str, Any]]:
    return [load_checkpoint(run / "checkpoints" / f"epoch-{n:04d}.ckpt") for n in (1, 2, 3)]


@pytest.mark.parametrize("name", list(CASES))
def test_the_model_is_the_mean_of_the_last_epochs(runs, tmp_path, name):
    """Each number is the plain mean; counters are those of the newest checkpoint."""
    model = average(runs[name], 2, tmp_path / "mean")
    prefix = CASES[name][0]
    _, one, two = (state["framework"] for state in states(runs[name]))
    found = model.encoder.state_dict()
    assert found.keys() == load_model(runs[name]).encoder.state_dict().keys()
    for key, value in found.items():
        a, b = one[prefix + key], two[prefix + key]
        if value.is_floating_point():
            torch.testing.assert_close(value, (a + b) / 2)
        else:
            assert value == b > a
    assert not torch.equal(found["fc.weight"], two[prefix + "fc.weight"])
    assert model.scoring == load_model(runs[name]).scoring
    assert model.provenance["averaged"] == ["epoch-0002.ckpt", "epoch-0003.ckpt"]
    theirs = load_model(runs[name]).provenance
    assert model.provenance.keys() - theirs.keys() == {"averaged"}
    same = theirs.keys() - {"finished", "command"}
    assert {k: model.provenance[k] for k in same} == {k: theirs[k] for k in same}


def test_the_mean_of_one_checkpoint_is_its_model(runs, tmp_path):
    average(runs["simclr"], 1, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (
        runs["simclr"] / "model" / "model.safetensors"
    ).read_bytes()


def test_the_command_averages_a_run(runs, tmp_path):
    words = ["average", str(runs["simclr"]), "--last", "3", "--out", str(tmp_path / "mean")]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "epoch-0001.ckpt, epoch-0002.ckpt, epoch-0003.ckpt" in result.output
    mean = sum(state["framework"]["encoder.fc.bias"] for state in states(runs["simclr"])) / 3
    torch.testing.assert_close(load_model(tmp_path / "mean").encoder.state_dict()["fc.bias"], mean)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (4, r"has 3 checkpoints .*: cannot average 4.*--last from 1 to 3, .*training\.keep=4"),
        (0, r"cannot average 0"),
    ],
)
def test_more_checkpoints_than_there_are_are_refused(runs, tmp_path, last, message):
    with pytest.raises(IdemvoxError, match=message):
        average(runs["simclr"], last, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_folders_that_cannot_be_averaged_are_refused(runs, tiny_recipe, tmp_path):
    with pytest.raises(IdemvoxError, match=r"not a run folder: it has no recipe\.yaml"):
        average(tmp_path, 1, tmp_path / "mean")
    with pytest.raises(IdemvoxError, match="holds a model: choose another --out"):
        average(runs["simclr"], 1, runs["simclr"] / "model")
    tiny_recipe(encoder="ivector").save(tmp_path / "recipe.yaml")
    with pytest.raises(IdemvoxError, match="of ivector, which is not trained by gradients"):
        average(tmp_path, 1, tmp_path / "mean")
