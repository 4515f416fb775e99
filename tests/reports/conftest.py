"""A run of the tiny corpus, as training and evaluating leave it."""

from __future__ import annotations

import json

import pytest
import torch

from idemvox.model import build_encoder, load_model, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.training.watch.curves import write_curves
from idemvox.verification.certificate import write_certificate
from idemvox.verification.drawing import make_trials
from idemvox.verification.evaluation import score_lists

EPOCHS = [
    {"loss": 3.5, "gauge_pseudo_eer": 0.25, "lr": 0.001},
    {"loss": 2.25, "gauge_pseudo_eer": 0.125, "lr": 0.001, "coverage": 0.5},
    {"loss": 2.5, "gauge_pseudo_eer": 0.0625, "lr": 0.001, "coverage": 0.75},
]


@pytest.fixture
def run(corpus, tmp_path):
    """A run folder with a model, curves of three epochs, and a certificate of all trials."""
    pytest.importorskip("pyarrow")
    folder = tmp_path / "run <1>"
    part = Part(name="fast_resnet34", **ENCODERS["fast_resnet34"].tiny)
    torch.manual_seed(0)
    encoder = build_encoder(part, {})
    encoder(torch.randn(4, 8000))
    save_model(folder / "model", encoder, part, {}, {"recipe": "tiny"}, scoring="cosine")
    events = [{"event": "epoch", "step": n, "at": n, **numbers} for n, numbers in enumerate(EPOCHS, 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    write_curves(folder)
    manifest = corpus.manifest
    trials = make_trials(manifest, "any", name="tiny")
    (scored,) = score_lists(load_model(folder), [trials], manifest, device="cpu")
    write_certificate(folder / "certificate", scored, draws=10)
    return folder
