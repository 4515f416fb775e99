"""Gauges on held-out audio: crops, the option of a recipe, and the log."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from idemvox.audio.read import write_wav
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.errors import RecipeError
from idemvox.model import load_model
from idemvox.recipe import GaugeName
from idemvox.training.fitters.base import Hooks
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.training.watch.held_out import HeldOut
from idemvox.verification.gauges import BEST_GAUGES, Gauges

UTTERANCES = 24


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """24 harmonic sounds of 4.1 to 5 s, each of its own pitch, that rise in level; and a short one."""
    root = tmp_path_factory.mktemp("held-out")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(UTTERANCES + 1):
        time = np.arange(round((rng.uniform(4.1, 5) if n < UTTERANCES else 3.9) * 16_000)) / 16_000
        tone = sum(np.sin(2 * np.pi * k * (80 + 12 * n) * time) / k for k in range(1, 20))
        write_wav(root / f"{n}.wav", 0.1 * tone * (0.2 + time / 6) + 0.001 * rng.normal(size=len(time)))
        rows.append(Utterance(f"{n}", f"{n}.wav", len(time) / 16_000, recording=f"r{n // 2}"))
    save_manifest(Manifest(rows, root), root / "held-out.csv")
    return root / "held-out.csv"


class Levels(nn.Module):
    """(B, 2) RMS and highest value of each crop; keeps what it heard."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def forward(self, wave, lengths=None):
        assert not self.training and not torch.is_grad_enabled()
        self.heard.append(wave)
        return torch.stack([wave.square().mean(1).sqrt(), wave.max(1).values], dim=1)


def test_crops_are_the_beginning_the_end_and_the_end_through_a_channel(held_out):
    parts = HeldOut(held_out, 100, 0)
    levels = Levels().train()
    found = parts.measure(levels, torch.device("cpu"))
    assert levels.training
    first, second, heard = levels.heard
    assert first.shape == second.shape == heard.shape == (UTTERANCES, 32_000)  # not the short one
    assert (first.square().mean(1) < second.square().mean(1)).all()  # it rises
    np.testing.assert_allclose(heard.square().mean(1).sqrt(), second.square().mean(1).sqrt(), rtol=0.02)
    assert not torch.allclose(heard, second, atol=0.01)
    assert np.bincount(parts.channels).tolist() == [6] * 4
    assert set(found) == {
        *(f"gauge_{name}" for name in ("alignment", "uniformity", "effective_rank", "pseudo_eer")),
        *(f"gauge_{name}" for name in ("channel_pseudo_eer", "channel_probe", "channel_chance")),
        "gauge_recording_pseudo_eer",
    }
    assert all(type(value) is float and math.isfinite(value) for value in found.values())
    assert HeldOut(held_out, 100, 0).measure(Levels(), torch.device("cpu")) == found


def test_at_most_so_many_and_not_too_few(held_out, corpus):
    assert len(HeldOut(held_out, 16, 0).channels) == 16
    with pytest.raises(RecipeError, match=r"data\.held_out.* 0 utterances of 4 s or more"):
        HeldOut(corpus.unlabelled, 16, 0)


def test_speakers_change_nothing(held_out, tmp_path):
    """Recordings of different speakers with the same name are one recording, as without speakers."""
    manifest = load_manifest(held_out)
    rows = [replace(u, path=str(manifest.path(u)), speaker=f"s{n}") for n, u in enumerate(manifest)]
    save_manifest(Manifest(rows, tmp_path), tmp_path / "labelled.csv")
    device = torch.device("cpu")
    assert HeldOut(tmp_path / "labelled.csv", 100, 0).measure(Levels(), device) == HeldOut(
        held_out, 100, 0
    ).measure(Levels(), device)


def test_each_epoch_logs_gauges_and_training_is_unchanged(held_out, tiny_recipe, tmp_path):
    """With and without gauges a run has the same bits: they draw nothing and change no mode."""
    with_gauges, without = tmp_path / "with", tmp_path / "without"
    one = train(
        tiny_recipe(f"data.held_out={held_out}", "training.gauge_utterances=16"), with_gauges, progress=False
    )
    other = train(tiny_recipe(), without, progress=False)
    epochs = [e for e in map(json.loads, (with_gauges / "log.jsonl").open()) if e["event"] == "epoch"]
    assert len(epochs) == 2 and all(
        "gauge_pseudo_eer" in e and e["gauge_effective_rank"] >= 1 for e in epochs
    )
    assert not any(name.startswith("gauge_") for name in other.numbers)
    assert one.numbers["loss"] == other.numbers["loss"]
    assert "gauge_uniformity" in (with_gauges / "curves.csv").read_text()


def test_held_out_audio_is_not_trained_on(tiny_recipe, corpus):
    with pytest.raises(RecipeError, match="not trained on"):
        tiny_recipe(f"data.held_out={corpus.unlabelled}")
    assert Run(tiny_recipe()).held_out is None


def kept(folder):
    return json.loads((folder / "best" / "model.json").read_text())["provenance"]


@pytest.mark.parametrize("gauge", ["effective_rank", "uniformity"])
def test_the_best_epoch_by_a_gauge_is_kept(held_out, tiny_recipe, tmp_path, gauge):
    """One gauge is better the higher it is, the other the lower."""
    keys = (f"data.held_out={held_out}", f"training.keep_best={gauge}", "training.epochs=4")
    weights, values = {}, {}

    def remember(run):
        weights[run.done] = {k: v.clone() for k, v in run.framework.embedder.state_dict().items()}
        values[run.done] = run.numbers[f"gauge_{gauge}"]

    found = train(tiny_recipe(*keys), tmp_path / "run", progress=False, hooks=Hooks(on_epoch=remember))
    best = (max if gauge == "effective_rank" else min)(values, key=values.__getitem__)
    assert found.best == tmp_path / "run" / "best"
    assert kept(tmp_path / "run")["epochs"] == best
    assert kept(tmp_path / "run")["kept"] == {"gauge": gauge, "value": values[best]}
    stored = load_model(found.best).encoder.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in weights[best].items())


def test_a_resumed_run_keeps_the_same_best_epoch(held_out, tiny_recipe, tmp_path):
    keys = (f"data.held_out={held_out}", "training.keep_best=uniformity")
    whole = train(tiny_recipe(*keys, "training.epochs=4"), tmp_path / "whole", progress=False)
    train(tiny_recipe(*keys, "training.epochs=3"), tmp_path / "parts", progress=False)
    train(tiny_recipe(*keys, "training.epochs=4"), tmp_path / "parts", resume=True, progress=False)
    one, other = kept(tmp_path / "whole"), kept(tmp_path / "parts")
    assert (one["epochs"], one["kept"]) == (other["epochs"], other["kept"])
    assert load_model(whole.best).provenance["epochs"] == one["epochs"]


@pytest.mark.parametrize("known", [True, False])
def test_the_gauge_to_keep_the_best_epoch_by_can_be_chosen_automatically(
    held_out, tiny_recipe, tmp_path, known
):
    manifest = load_manifest(held_out)
    rows = [
        replace(u, path=str(manifest.path(u)), recording=u.recording if known else None) for u in manifest
    ]
    save_manifest(Manifest(rows, tmp_path), tmp_path / "held.csv")
    keys = (f"data.held_out={tmp_path / 'held.csv'}", "training.keep_best=auto", "training.epochs=1")
    train(tiny_recipe(*keys), tmp_path / "run", progress=False)
    assert kept(tmp_path / "run")["kept"]["gauge"] == ("recording_pseudo_eer" if known else "pseudo_eer")


def test_a_best_epoch_needs_the_gauge(held_out, tiny_recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"set data\.held_out=FILE"):
        tiny_recipe("training.keep_best=alignment")
    manifest = load_manifest(held_out)
    rows = [replace(u, path=str(manifest.path(u)), recording=None) for u in manifest]
    save_manifest(Manifest(rows, tmp_path), tmp_path / "plain.csv")
    recipe = tiny_recipe(f"data.held_out={tmp_path / 'plain.csv'}", "training.keep_best=recording_pseudo_eer")
    with pytest.raises(RecipeError, match="does not name the recordings"):
        train(recipe, tmp_path / "run", progress=False)


def test_every_gauge_that_can_choose_an_epoch_is_measured():
    assert set(get_args(GaugeName)) <= {f.name for f in fields(Gauges)}
    assert set(BEST_GAUGES) <= set(get_args(GaugeName))
