"""Importing the weights of every toolkit, tested on small random weights in its layout."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.model import Model, import_weights, load_model
from idemvox.registry import PEERS
from idemvox.training.loop import train
from idemvox.verification.embed import embed_waves

from .layouts import LAYOUTS, Layout, Wave

SECONDS = (0.9, 1.7, 2.35, 3.61, 0.13)
"""With one window of Resemblyzer or several, the last of them used or not."""


def speechlike(seconds: float, seed: int) -> Wave:
    """Harmonics under a moving envelope, with hiss; the first is quiet."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16_000)) / 16_000
    voice = sum(np.sin(2 * np.pi * (110 + 20 * seed) * n * t) / n for n in range(1, 20))
    wave = voice * np.abs(np.sin(2 * np.pi * 2.3 * t + seed)) + 0.05 * rng.standard_normal(len(t))
    return ((0.01 if seed == 0 else 0.1) * wave).astype(np.float32)


WAVES = [speechlike(seconds, seed) for seed, seconds in enumerate(SECONDS)]


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


@pytest.fixture
def model(layout: Layout, tmp_path: Path) -> Model:
    torch.save(layout.make(), tmp_path / "weights.pt")
    return import_weights(tmp_path / "weights.pt", layout.peer, tmp_path / "model")


def test_every_toolkit_is_tested() -> None:
    assert {layout.peer for layout in LAYOUTS.values()} == set(PEERS)


def test_embeddings_equal_the_toolkits(layout: Layout, model: Model) -> None:
    """To 1e-4 of the largest number, alone and in a padded batch."""
    expected = np.array([layout.embed(layout.make(), wave) for wave in WAVES])
    assert np.ptp(expected, axis=0).max() > 0.02 * np.abs(expected).max(), "all equal: tests nothing"
    atol = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(embed_waves(model.encoder, WAVES), expected, rtol=0, atol=atol)
    for wave, vector in zip(WAVES, expected, strict=True):
        np.testing.assert_allclose(embed_waves(model.encoder, [wave])[0], vector, rtol=0, atol=atol)


def test_the_model_records_its_origin(layout: Layout, model: Model) -> None:
    origin = model.provenance["imported"]
    file = model.folder.parent / "weights.pt"
    assert origin["from"] == layout.peer and origin["file"] == "weights.pt"
    assert origin["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert json.loads((model.folder / "model.json").read_text())["encoder"]["name"] == layout.encoder


@pytest.mark.parametrize(
    "layout", ["resemblyzer", "sslsv, SimCLR", "wespeaker, ResNet", "wespeaker, ECAPA"], indirect=True
)
def test_training_continues_with_ssps(layout: Layout, model: Model, tiny_recipe: Any) -> None:
    """It starts from the imported weights, and they move."""
    description = json.loads((model.folder / "model.json").read_text())
    recipe = tiny_recipe(
        *(f"{key}={json.dumps(description[key])}" for key in ("encoder", "frontend")),
        f"start_from={model.folder}",
        "training.epochs=1",
        "training.batch=12",
        "training.lr=1e-3",
        positives="ssps",
    )
    trained = load_model(train(recipe, model.folder.parent / "run", progress=False).folder)
    before, after = model.encoder.state_dict(), trained.encoder.state_dict()
    weights = [name for name, value in before.items() if value.is_floating_point() and value.ndim > 1]
    assert all((before[name] - after[name]).abs().max() < 0.05 for name in weights)
    assert any(not torch.equal(before[name], after[name]) for name in weights)


def test_other_weights_are_refused(layout: Layout, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(IdemvoxError, match=rf"other.pt does not hold weights of {layout.peer}"):
        import_weights(tmp_path / "other.pt", layout.peer, tmp_path / "model")
    state = layout.make()
    name = max(state, key=lambda name: state[name].numel())
    torch.save(state | {name: state[name][1:]}, tmp_path / "cut.pt")
    with pytest.raises(IdemvoxError, match=r"cut.pt does not hold weights"):
        import_weights(tmp_path / "cut.pt", layout.peer, tmp_path / "model")
    assert not (tmp_path / "model").exists()


class Harm:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.file,)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    torch.save({"x": Harm(tmp_path / "harm")}, tmp_path / "bad.pt")
    with pytest.raises(IdemvoxError, match="Nothing in it was executed"):
        import_weights(tmp_path / "bad.pt", "resemblyzer", tmp_path / "model")
    assert not (tmp_path / "harm").exists()


def test_numbers_beside_the_weights_are_ignored(tmp_path: Path) -> None:
    """sslsv stores its best error rate as a NumPy number."""
    content = {"best_metric": np.float64(3.5), "step": np.int64(2), **LAYOUTS["resemblyzer"].make()}
    torch.save(content, tmp_path / "w.pt")
    assert import_weights(tmp_path / "w.pt", "resemblyzer", tmp_path / "m").encoder.dim == 10


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_damaged_files_are_reported(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IdemvoxError, match=name):
        import_weights(tmp_path / name, "resemblyzer", tmp_path / "model")
    with pytest.raises(IdemvoxError, match="no file"):
        import_weights(tmp_path / "nowhere.pt", "resemblyzer", tmp_path / "model")


def test_the_command_imports_weights(tmp_path: Path) -> None:
    torch.save(LAYOUTS["resemblyzer"].make(), tmp_path / "w.pt")
    arguments = ["import-weights", str(tmp_path / "w.pt"), str(tmp_path / "m"), "--from"]
    done = CliRunner().invoke(app, [*arguments, "resemblyzer"])
    assert done.exit_code == 0 and "GE2ELSTM" in done.output
    assert f"start_from={tmp_path / 'm'}" in done.output and '"kind": "resemblyzer"' in done.output
    with pytest.raises(IdemvoxError, match="holds a model"):
        CliRunner().invoke(app, [*arguments, "resemblyzer"], catch_exceptions=False)
    with pytest.raises(IdemvoxError, match="did you mean 'resemblyzer'"):
        CliRunner().invoke(app, [*arguments, "resemblizer"], catch_exceptions=False)
    help_text = CliRunner().invoke(app, ["import-weights", "--help"]).output
    assert all(peer in help_text for peer in PEERS)
