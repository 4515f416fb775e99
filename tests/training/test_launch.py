"""Two processes train as one does, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from idemvox.errors import RecipeError
from idemvox.model import load_model
from idemvox.ranks import synced
from idemvox.recipe import Recipe, load_recipe
from idemvox.registry import FRAMEWORKS, POSITIVES
from idemvox.training.assembly import assemble
from idemvox.training.launch import train_on
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint

pytestmark = pytest.mark.slow

CLOSE = 1e-8
"""How far two processes may be from one in float64, relative: rounding stays far below, mistakes do not."""

ONE_OF_TWO = """
import sys
from pathlib import Path
import torch
from torch import distributed
from idemvox.recipe import load_recipe
from idemvox.training.loop import train

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # as the fixture float64 does
torch.Tensor.float = torch.Tensor.double
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
for path in sorted(folder.glob("*.yaml")):
    train(load_recipe(path), folder / path.stem, progress=False)
distributed.destroy_process_group()
"""

CASES = [f"{framework}+same" for framework in FRAMEWORKS]
CASES += [f"simclr+{positives}" for positives in POSITIVES if positives != "same"]
CASES += ["dino+ssps"]  # which takes several views; the other pairs would test nothing more
MORE = {
    "simclr+ssps+masked": ("positives.mask_cluster=true", "positives.refresh=true"),
    "simclr+ssps+agglomerated": ("positives.clusterer=agglomerative", "positives.level=view"),
    "supervised_aam+same+lgl": ("framework.gate=fixed", "framework.threshold=20", "framework.gate_after=0"),
    "supervised_aam+same+dlg-lc": (
        "framework.gate=mixture",
        "framework.gate_after=1",
        "framework.correct_after=1",
        "framework.confidence=0.2",
    ),
}
CASES += MORE


@pytest.fixture(scope="module")
def folder(tiny_recipe, tmp_path_factory) -> Path:
    """A folder of recipes that two processes have trained, each with its run."""
    folder: Path = tmp_path_factory.mktemp("two")
    for case in CASES:
        framework, positives = case.split("+")[:2]
        supervised = FRAMEWORKS[framework].supervised or POSITIVES[positives].supervised
        tiny_recipe(
            "training.optimizer=sgd",  # Adam would turn rounding errors into full steps
            "training.lr=0.0005",
            "augment.policy=none",
            "training.batch=12",  # two steps an epoch
            *MORE.get(case, ()),
            *(
                ()
                if any(part in case for part in ("ssps", "dino", "dlg", "ssrl"))
                else ("training.epochs=1",)
            ),  # no epoch differs
            framework=framework,
            positives=positives,
            labelled=supervised,
        ).save(folder / f"{case}.yaml")
    both = [subprocess.Popen([sys.executable, "-c", ONE_OF_TWO, str(rank), str(folder)]) for rank in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    return folder


def losses(run: Path) -> Tensor:
    lines = map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines())
    return torch.tensor([line["loss"] for line in lines if line["event"] == "step"])


def state(run: Path) -> dict[str, Any]:
    return load_checkpoint(last_checkpoint(run / "checkpoints"))


def weights(state: dict[str, Tensor]) -> Tensor:
    """Return weights, teachers, statistics and centre as one vector; what is not set yet is 0."""
    return torch.cat(
        [
            v.flatten().double().nan_to_num(0, 0)
            for k, v in state.items()
            if "num_batches" not in k and isinstance(v, Tensor)
        ]
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(folder, case, tmp_path):
    recipe = load_recipe(folder / f"{case}.yaml")
    begin = weights(assemble(recipe).framework.state_dict())
    alone, together = train(recipe, tmp_path / "run", progress=False).folder, folder / case
    torch.testing.assert_close(losses(together), losses(alone), rtol=CLOSE, atol=CLOSE)
    one, two = (weights(state(run)["framework"]) for run in (alone, together))
    assert (two - one).norm() < CLOSE * (one - begin).norm()
    queues = state(alone)["positives"]
    assert queues.keys() == state(together)["positives"].keys()
    for name, value in queues.items():
        if not value.is_floating_point():  # queue slots and clusters
            assert torch.equal(state(together)["positives"][name], value), name


def test_one_process_writes_an_ordinary_model(folder):
    run = folder / "dino+same"
    assert len(losses(run)) == 4 and load_model(run).provenance["epochs"] == 2


# -- starting them ----------------------------------------------------------------------------


def idemvox(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "idemvox.cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_option_devices_starts_processes(tiny_recipe, tmp_path):
    tiny_recipe("training.epochs=1").save(tmp_path / "r.yaml")
    done = idemvox("train", f"{tmp_path / 'r.yaml'}", "--devices", "2", "--out", f"{tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert "utterances per second" in done.stdout and str(tmp_path / "run") in done.stdout.replace("\n", "")
    assert len(losses(tmp_path / "run")) == 3


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_after_a_signal_the_run_is_saved_and_resumes(how, tiny_recipe, tmp_path):
    """Ctrl-C reaches all processes, as in a terminal; SIGTERM reaches the one that started them."""
    tiny_recipe("training.epochs=500", positives="ssps").save(tmp_path / "r.yaml")
    run, command = tmp_path / "run", [sys.executable, "-m", "idemvox.cli", "train", f"{tmp_path / 'r.yaml'}"]
    command += ["--devices", "2", "--out", f"{run}", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    try:
        while not (run / "checkpoints" / "epoch-0001.ckpt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        output, _ = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):  # many epochs are left
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGTERM)
    assert "everything is saved in" in output and output.count("stopped") == 1 + (how == signal.SIGINT)
    done = state(run)["done"]
    assert 1 <= done < 500
    if how == signal.SIGTERM:
        return  # it is the same checkpoint
    recipe: Recipe = tiny_recipe(f"training.epochs={done + 1}", positives="ssps")
    train(recipe, run, resume=True, progress=False)  # by one process what two began
    assert state(run)["done"] == done + 1


def test_a_failing_process_ends_all_with_its_error(tiny_recipe, tmp_path):
    recipe: Recipe = tiny_recipe("training.batch=9")
    with pytest.raises(RecipeError, match=r"training\.batch=9 is for all 2 processes"):
        train_on(2, recipe, tmp_path / "run", progress=False)


def test_training_under_torchrun(tiny_recipe, tmp_path):
    tiny_recipe("training.epochs=1").save(tmp_path / "r.yaml")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--log-dir", f"{tmp_path}", "-m", "idemvox.cli", "train"]
    done = subprocess.run(
        [sys.executable, *command, f"{tmp_path / 'r.yaml'}", "--out", f"{tmp_path / 'run'}", "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "run")) == 3


def test_one_process_keeps_its_batch_normalisation():
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    assert type(synced(module, torch.device("cpu"))[0]) is torch.nn.BatchNorm1d
