"""Checkpoints: complete, few, and never executed as code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from idemvox.errors import IdemvoxError
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint


def test_a_loaded_checkpoint_equals_the_saved_one(tmp_path):
    state = {
        "weights": {"a": torch.randn(3, 2), "n": torch.tensor(4)},
        "done": 3,
        "numbers": {"loss": 0.1},
        "x": [1, None],
    }
    loaded = load_checkpoint(save_checkpoint(tmp_path, 3, state, keep=2))
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"]) and loaded["weights"]["n"] == 4
    assert {k: loaded[k] for k in ("done", "numbers", "x")} == {k: state[k] for k in ("done", "numbers", "x")}


def test_only_the_newest_are_kept(tmp_path):
    assert last_checkpoint(tmp_path / "nowhere") is None and last_checkpoint(tmp_path) is None
    for epoch in (8, 9, 10, 11):
        assert save_checkpoint(tmp_path, epoch, {"epoch": epoch}, keep=2) == last_checkpoint(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch-0010.ckpt", "epoch-0011.ckpt"]


def test_the_last_has_the_highest_number_and_other_files_are_ignored(tmp_path):
    for name in (
        "epoch-9999.ckpt",
        "epoch-10000.ckpt",
        "epoch-best.ckpt",
        ".epoch-99999.ckpt.x.part",
        "notes",
    ):
        (tmp_path / name).write_bytes(b"")
    assert last_checkpoint(tmp_path).name == "epoch-10000.ckpt"
    save_checkpoint(tmp_path, 10_001, {}, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".epoch-99999.ckpt.x.part",
        "epoch-10001.ckpt",
        "epoch-best.ckpt",
        "notes",
    ]


def test_a_failed_write_keeps_the_previous_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, {"done": 1}, keep=1)

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 2, {}, keep=1)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["epoch-0001.ckpt"]
    assert load_checkpoint(last_checkpoint(tmp_path)) == {"done": 1}


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "harm",)

    torch.save({"x": Harm()}, tmp_path / "epoch-0001.ckpt")
    with pytest.raises(IdemvoxError, match="epoch-0001"):
        load_checkpoint(tmp_path / "epoch-0001.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_damage_is_reported(tmp_path, content):
    path = save_checkpoint(tmp_path, 1, {"a": torch.zeros(100)}, keep=1)
    path.write_bytes(path.read_bytes()[:300] if content is None else content)
    with pytest.raises(IdemvoxError, match=r"epoch-0001\.ckpt cannot be read.*delete it"):
        load_checkpoint(path)


def test_numpy_numbers_are_refused(tmp_path):
    """The gauges give plain floats because a NumPy number could be written but not read."""
    path = save_checkpoint(tmp_path, 1, {"numbers": {"coverage": np.float64(0.5)}}, keep=1)
    with pytest.raises(IdemvoxError):
        load_checkpoint(path)
