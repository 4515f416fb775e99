"""Compiled encoders: the same numbers under the same names."""

from __future__ import annotations

import copy
import math
import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idemvox.encoders.base import Encoder
from idemvox.errors import IdemvoxError
from idemvox.frameworks.simclr import SimCLR
from idemvox.training import compilation
from idemvox.training.compilation import compile_encoders
from idemvox.training.loop import train
from idemvox.training.run import Run

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


class Small(Encoder):
    """A layer, its normalisation, and the mean over time."""

    dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(40, 4, 3), nn.BatchNorm1d(4)

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        return self.part(self.norm, self.conv(features).relu()).mean(-1)


@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch.compile needs a C++ compiler on a CPU"
)
@pytest.mark.usefixtures("float64")
def test_a_compiled_encoder_gives_the_same_embeddings():
    torch.manual_seed(0)
    plain, wave = SimCLR(Small()).train(), torch.randn(3, 1600)
    compiled = copy.deepcopy(plain)
    compile_encoders(compiled, CPU)
    outputs = [framework.encoder(wave) for framework in (plain, compiled)]
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-9)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict())  # with the running statistics


def test_a_compiled_run_trains_like_an_uncompiled_one(tiny_recipe, tmp_path, monkeypatch):
    """Student and teacher, in training and in the fill pass, with a stand-in for the compiler."""
    monkeypatch.setattr(compilation.shutil, "which", lambda name: name)
    asked: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda function: asked.append(function) or function)
    recipes = [
        tiny_recipe(f"training.compile={on}", "training.epochs=1", framework="dino", positives="ssps")
        for on in ("false", "true")
    ]
    models = [train(recipe, tmp_path / str(n), progress=False).model for n, recipe in enumerate(recipes)]
    assert [function.__name__ for function in asked] == ["encode"] * 2
    assert len({id(function.__self__) for function in asked}) == 2
    assert len({(model / "model.safetensors").read_bytes() for model in models}) == 1


@pytest.mark.parametrize("encoder", ["fast_resnet34", "ecapa_tdnn"])
def test_every_encoder_compiles_to_one_graph(tiny_recipe, monkeypatch, encoder):
    """A graph break is an error here. No machine code is generated."""
    monkeypatch.setattr(compilation.shutil, "which", lambda name: name)
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function: real(function, backend="eager", fullgraph=True))
    run = Run(tiny_recipe("training.compile=true", encoder=encoder))
    batch = next(iter(run.batches.epoch(0, run.positives)))
    loss = run.step([batch], 0, 0.1).loss
    assert loss is not None and math.isfinite(loss)


def test_a_missing_compiler_is_reported(tiny_recipe, monkeypatch):
    monkeypatch.setattr(compilation.shutil, "which", lambda name: None)
    with pytest.raises(IdemvoxError, match=r"needs a C\+\+ compiler on a CPU.*CXX"):
        Run(tiny_recipe("training.compile=true"))


def test_compiling_with_recomputing_is_refused(tiny_recipe):
    with pytest.raises(IdemvoxError, match="compile and recompute do not go together"):
        tiny_recipe("training.compile=true", "training.recompute=true")
