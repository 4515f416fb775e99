"""The recipe of large-margin fine-tuning, which continues a supervised run."""

from __future__ import annotations

import json

import torch

from idemvox.recipe import load_recipe
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint


def test_fine_tuning_continues_with_the_class_vectors(tiny_recipe, tmp_path):
    """It keeps encoder, class vectors and moments, and has its own margin, crops and constant rate."""
    before = tiny_recipe(
        "training.epochs=2", "training.lr_every=1", framework="supervised_aam", labelled=True
    )
    train(before, tmp_path / "supervised", progress=False)
    start = load_checkpoint(last_checkpoint(tmp_path / "supervised" / "checkpoints"))
    tiny = before.model_dump(mode="json")
    recipe = load_recipe("large-margin")
    assert recipe.framework.model_extra == {"scale": 30, "margin": 0.5, "seconds": 6}
    recipe = recipe.override(
        [
            f"start_from={tmp_path / 'supervised'}",
            f"data.manifest={tiny['data']['manifest']}",
            "frontend.mels=20",
            f"encoder={json.dumps(tiny['encoder'])}",
            "framework.seconds=0.4",
            "training.batch=8",
            "training.workers=0",
            "training.epochs=1",
        ]
    )
    run = Run(recipe)
    assert recipe.start_from is not None
    run.start_from(recipe.start_from)
    for name, value in run.framework.state_dict().items():
        assert torch.equal(value, start["framework"][name]), name
    assert run.framework.options.margin == 0.5 and run.framework.views()["anchor"].seconds == 0.4
    moments = run.optimizer.state_dict()["state"][0]["exp_avg"]
    assert torch.equal(moments, start["optimizer"]["state"][0]["exp_avg"])
    trained = train(recipe, tmp_path / "large", progress=False)
    assert trained.epochs == 3 and trained.numbers["lr"] == 1e-5
    after = load_checkpoint(last_checkpoint(tmp_path / "large" / "checkpoints"))["framework"]["classes"]
    moved = (after - start["framework"]["classes"]).abs().max()
    assert 0 < moved < 2e-4  # they are three steps of 1e-5 from the old ones, not new
