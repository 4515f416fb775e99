"""Model folders: saving, loading, and refusing anything else."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from idemvox.errors import IdemvoxError
from idemvox.model import FORMAT, build_encoder, fingerprint, load_model, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS

PARTS = {
    name: Part(name=name, **ENCODERS[name].tiny) for name in ENCODERS if ENCODERS[name].fitter == "gradient"
}
FRONTEND = {"mels": 24, "window": "hann", "normalise": "mean"}


def saved(folder: Path, name: str = "fast_resnet34", seed: int = 0):
    """Save an encoder that has seen some data, so that its statistics are not the initial ones."""
    torch.manual_seed(seed)
    encoder = build_encoder(PARTS[name], FRONTEND)
    encoder(torch.randn(4, 8000))
    save_model(folder, encoder, PARTS[name], FRONTEND, {"recipe": "r", "epochs": 3}, scoring="cosine")
    return encoder.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", PARTS)
def test_a_loaded_model_gives_the_same_embeddings(tmp_path, name):
    encoder = saved(tmp_path / "m", name)
    loaded = load_model(tmp_path / "m")
    assert loaded.provenance == {"recipe": "r", "epochs": 3} and loaded.folder == tmp_path / "m"
    assert type(loaded.encoder) is type(encoder) and not loaded.encoder.training
    assert loaded.encoder.frontend.settings == encoder.frontend.settings
    assert loaded.encoder.frontend.settings.window == "hann"
    wave, lengths = torch.randn(3, 9000), torch.tensor([9000, 5000, 7000])
    with torch.no_grad():
        assert torch.equal(loaded.encoder(wave, lengths), encoder(wave, lengths))


def test_options_may_be_tuples(tmp_path):
    part = Part(name="fast_resnet34", channels=(4, 8, 8, 8), dim=16)
    save_model(tmp_path, build_encoder(part, {}), part, {}, {}, scoring="cosine")
    assert load_model(tmp_path).encoder.dim == 16


def test_a_run_folder_may_be_given_instead_of_its_model(folder):
    assert load_model(folder.parent).folder == folder
    assert load_model(str(folder)).folder == folder


@pytest.mark.parametrize("scoring", ["cosine", "euclidean"])
def test_the_model_records_how_it_is_scored(tmp_path, scoring):
    encoder = build_encoder(PARTS["fast_resnet34"], {})
    save_model(tmp_path, encoder, PARTS["fast_resnet34"], {}, {}, scoring=scoring)
    assert load_model(tmp_path).scoring == scoring


def test_a_model_of_format_1_is_scored_by_cosine(folder):
    description = json.loads((folder / "model.json").read_text())
    del description["scoring"]
    (folder / "model.json").write_text(json.dumps(description | {"format": 1}))
    assert load_model(folder).scoring == "cosine"


def test_a_model_folder_has_weights_a_description_and_a_card_only(folder):
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    description = json.loads((folder / "model.json").read_text())
    assert description["format"] == FORMAT
    assert description["encoder"] == PARTS["fast_resnet34"].model_dump()
    assert description["frontend"]["n_fft"] == 512  # every value, given or default


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for owner, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (torch, "save"),
    ):
        monkeypatch.setattr(owner, name, forbidden)
    monkeypatch.setattr(pickle, "dump", forbidden)
    monkeypatch.setattr(pickle, "dumps", forbidden)
    saved(tmp_path / "m")
    load_model(tmp_path / "m")


def test_a_pickle_instead_of_the_weights_is_not_run(folder):
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (folder / "harm",)

    torch.save({"x": Harm()}, folder / "model.safetensors")
    with pytest.raises(IdemvoxError, match="damaged"):
        load_model(folder)
    assert not (folder / "harm").exists()


def test_saving_again_replaces_weights_and_removes_their_measurements(folder):
    for name in ("report.json", "calibration.json", "notes.txt"):
        (folder / name).write_text("{}")
    encoder = saved(folder, seed=1)
    assert not (folder / "report.json").exists() and not (folder / "calibration.json").exists()
    assert (folder / "notes.txt").exists()
    assert torch.equal(load_model(folder).encoder.fc.weight, encoder.fc.weight)
    assert not list(folder.glob("*.part"))


def test_a_failed_save_keeps_the_old_weights(folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    (folder / "report.json").write_text("{}")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(safetensors.torch, "save", full)
    with pytest.raises(OSError, match="disk full"):
        saved(folder, seed=1)
    assert (folder / "model.safetensors").read_bytes() == before
    assert (folder / "report.json").exists() and not list(folder.glob("*.part"))


def rewrite(folder: Path, **changes: object) -> None:
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | changes))


def test_a_newer_format_is_refused(folder):
    rewrite(folder, format=FORMAT + 1)
    with pytest.raises(IdemvoxError, match=f"format {FORMAT + 1}.* up to {FORMAT}: upgrade"):
        load_model(folder)


def test_other_folders_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(IdemvoxError, match=r"not a model folder"):
            load_model(path)


def without_a_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["fc.bias"]
    save_file(state, folder / "model.safetensors")


DAMAGE = {
    "weights cut short": lambda f: (f / "model.safetensors").write_bytes(
        (f / "model.safetensors").read_bytes()[:5000]
    ),
    "weights empty": lambda f: (f / "model.safetensors").write_bytes(b""),
    "weights missing": lambda f: (f / "model.safetensors").unlink(),
    "a tensor missing": without_a_tensor,
    "weights of another size": lambda f: rewrite(f, encoder={"name": "fast_resnet34", "dim": 8}),
    "weights of another kind": lambda f: rewrite(f, encoder=PARTS["ecapa_tdnn"].model_dump()),
    "description cut short": lambda f: (f / "model.json").write_text((f / "model.json").read_text()[:40]),
    "description not an object": lambda f: (f / "model.json").write_text("[]"),
    "no format": lambda f: (f / "model.json").write_text("{}"),
    "format not a number": lambda f: rewrite(f, format="one"),
    "encoder not named": lambda f: rewrite(f, encoder={}),
    "encoder unknown": lambda f: rewrite(f, encoder="fast_resnet35"),
    "front end not an object": lambda f: rewrite(f, frontend=3),
    "scoring unknown": lambda f: rewrite(f, scoring="plda"),
    "front end unknown": lambda f: rewrite(f, frontend={"mel": 3}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported(folder, damage):
    DAMAGE[damage](folder)
    with pytest.raises(IdemvoxError):
        load_model(folder)


def test_a_model_folder_can_be_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere").encoder.dim == 16


def test_errors_of_building_an_encoder_say_what_is_wrong():
    with pytest.raises(IdemvoxError, match=r"unknown encoder 'fast_resnet43'; did you mean 'fast_resnet34'"):
        build_encoder(Part(name="fast_resnet43"), {})
    with pytest.raises(IdemvoxError, match=r"'encoder.chanels'; did you mean 'encoder.channels'"):
        build_encoder(Part(name="fast_resnet34", chanels=3), {})
    with pytest.raises(IdemvoxError, match=r"'frontend.mel'; did you mean 'frontend.mels'"):
        build_encoder(Part(name="fast_resnet34"), {"mel": 3})
    with pytest.raises(IdemvoxError, match=r"'frontend.name'"):
        build_encoder(Part(name="fast_resnet34"), {"name": "log-mel"})


def test_the_fingerprint_covers_all_that_determines_embeddings(tmp_path, folder):
    """These are weights, encoder and front end, but not the scoring, the provenance or the folder."""
    one = fingerprint(folder)
    description = json.loads((folder / "model.json").read_text())
    for number, (part, key, value, same) in enumerate(
        (
            ("provenance", "recipe", "another", True),
            ("scoring", None, "euclidean", True),
            ("frontend", "normalise", "none", False),
            ("encoder", "dim", 7, False),
        )
    ):
        shutil.copytree(folder, other := tmp_path / str(number))
        changed = {**description, part: value if key is None else {**description[part], key: value}}
        (other / "model.json").write_text(json.dumps(changed))
        assert (fingerprint(other) == one) == same
    saved(folder, seed=1)
    assert fingerprint(folder) != one and len(one) == 64
