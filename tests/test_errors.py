"""The class of an error tells what is wrong, and all are IdemvoxErrors."""

from __future__ import annotations

import pytest

import idemvox
from idemvox.audio.banks import load_bank
from idemvox.training.state.checkpoint import load_checkpoint


def test_the_class_tells_the_kind_of_error(tmp_path):
    (tmp_path / "text").write_text("no\n")
    (tmp_path / "bad.csv").write_text("id,path,seconds\na,a.wav,long\n")
    unknown = '{"format": 1, "encoder": {"name": "fast_resnet43"}, "frontend": {}}'
    for name, text in (("broken", "{"), ("unknown", unknown)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(text)
    for error, cause in (
        (idemvox.CorpusError, lambda: idemvox.load_manifest(tmp_path / "none.csv")),
        (idemvox.CorpusError, lambda: idemvox.load_manifest(tmp_path / "bad.csv")),
        (idemvox.CorpusError, lambda: idemvox.load_trials(tmp_path / "text")),
        (idemvox.RecipeError, lambda: idemvox.load_recipe("simcrl")),
        (idemvox.RecipeError, lambda: idemvox.load_recipe("simclr").override(["training.epoch=1"])),
        (idemvox.RecipeError, lambda: idemvox.load_recipe("simclr").override(["training.epochs=0"])),
        (idemvox.ModelError, lambda: idemvox.load_model(tmp_path)),
        (idemvox.ModelError, lambda: idemvox.load_model(tmp_path / "broken")),
        (idemvox.ModelError, lambda: idemvox.load_model(tmp_path / "unknown")),
        (idemvox.AudioError, lambda: load_bank(tmp_path)),
        (idemvox.RunError, lambda: load_checkpoint(tmp_path / "text")),
    ):
        with pytest.raises(idemvox.IdemvoxError) as caught:
            cause()
        assert type(caught.value) is error, caught.value
