"""Properties of every registered framework with every positive sampler, and of every encoder."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from idemvox.errors import IdemvoxError
from idemvox.frameworks.base import Framework
from idemvox.model import load_model
from idemvox.registry import ENCODERS, FRAMEWORKS, POSITIVES
from idemvox.training.fitters.base import Trained
from idemvox.training.loop import train
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint


@dataclass(frozen=True, slots=True)
class Combination:
    framework: str
    positives: str
    encoder: str

    @property
    def fits(self) -> bool:
        """A classifier has no positives to choose."""
        return self.positives == "same" or FRAMEWORKS[self.framework].target is not Framework.target

    @property
    def supervised(self) -> bool:
        return bool(FRAMEWORKS[self.framework].supervised or POSITIVES[self.positives].supervised)

    def __str__(self) -> str:
        return f"{self.framework}+{self.positives}+{self.encoder}"


LEARNING = [name for name in ENCODERS if ENCODERS[name].fitter == "gradient"]
ONE = "fast_resnet34"  # with every framework and sampler; they know nothing of the encoder but its interface
FEW = [("simclr", "same"), ("dino", "ssps")]  # with every encoder
ALL = [
    Combination(framework, positives, encoder)
    for framework, positives, encoder in itertools.product(FRAMEWORKS, POSITIVES, LEARNING)
    if encoder == ONE or (framework, positives) in FEW
]
FITTING = [c for c in ALL if c.fits]
SUPERVISED = [c for c in FITTING if c.supervised]
CLOSELY = [c for c in FITTING if c.positives in ("same", "ssps") or c.framework in ("simclr", "dino")]
"""Every framework with two samplers, and every sampler with two frameworks, for what takes several runs."""
each = pytest.mark.parametrize


def make(tiny_recipe: Callable[..., Any], c: Combination, labelled: bool) -> Any:
    return tiny_recipe(
        "training.batch=12",
        labelled=labelled,
        framework=c.framework,
        positives=c.positives,
        encoder=c.encoder,
    )


@pytest.fixture(scope="module")
def run(tiny_recipe, tmp_path_factory) -> Callable[[Combination, bool], tuple[Trained, list[Any]]]:
    """Train a combination once for all tests; return the run's state and the batches that it used."""
    done: dict[tuple[Combination, bool], tuple[Trained, list[Any]]] = {}

    def trained(c: Combination, labelled: bool) -> tuple[Trained, list[Any]]:
        if (c, labelled) not in done:
            seen: list[Any] = []
            cls = FRAMEWORKS[c.framework]
            forward = cls.forward

            def spy(self: Framework, batch: Any, positives: Any) -> Any:
                seen.append(batch)
                step = forward(self, batch, positives)
                assert (step.swap is None) == (cls.target is Framework.target)
                return step

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cls, "forward", spy)
                folder = tmp_path_factory.mktemp("run") / "run"
                done[c, labelled] = train(make(tiny_recipe, c, labelled), folder, progress=False), seen
        return done[c, labelled]

    return trained


def state(folder: Path) -> dict[str, Any]:
    """The last checkpoint, without measured times."""
    found = load_checkpoint(last_checkpoint(folder / "checkpoints"))
    measured = {"utterances_per_second", "waiting_for_audio"}
    found["numbers"] = {k: v for k, v in found["numbers"].items() if k not in measured}
    return found


def assert_same_bits(a: Any, b: Any, at: str = "state") -> None:
    assert type(a) is type(b), at
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), at
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            assert_same_bits(a[key], b[key], f"{at}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), at
        for n, pair in enumerate(zip(a, b, strict=True)):
            assert_same_bits(*pair, f"{at}.{n}")
    else:
        assert a == b or (a != a and b != b), at


def weights(folder: Path) -> dict[str, Any]:
    found = state(folder)
    return {key: found[key] for key in ("framework", "positives", "optimizer", "first", "done")}


def events(folder: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@each("c", FITTING, ids=str)
def test_trains_and_leaves_a_model(run, c):
    trained, seen = run(c, c.supervised)
    assert trained.epochs == 2 and math.isfinite(trained.numbers["loss"])
    for epoch in (0, 1):  # every utterance once
        ids = torch.cat([b.ids for b in seen[2 * epoch : 2 * epoch + 2]])
        assert ids.sort().values.tolist() == list(range(24))
    assert len(seen) == 4 and all((b.classes is not None) == FRAMEWORKS[c.framework].supervised for b in seen)

    logged = events(trained.folder)
    epochs = [e for e in logged if e["event"] == "epoch"]
    assert [e["epoch"] if "epoch" in e else e["at"] for e in epochs] == [1, 2]
    assert all(math.isfinite(e["loss"]) for e in logged if e["event"] in ("step", "epoch"))
    assert any(e["event"] == "step" for e in logged)

    model = load_model(trained.folder)
    assert model.scoring == ("euclidean" if c.framework == "prototypical" else "cosine")
    wave = torch.randn(2, 12_000)
    with torch.no_grad():
        assert torch.isfinite(model.encoder(wave)).all() and model.encoder(wave).shape == (2, 16)
    assert model.provenance["epochs"] == 2 and model.provenance["utterances"] == 24
    if c.positives == "supervised":
        assert all(e["coverage"] == e["speaker_accuracy"] == 1 for e in epochs)
    initial = [e["loss"] for e in epochs]
    assert initial[0] != initial[1]


@each("c", [c for c in CLOSELY if not c.supervised], ids=str)
def test_labels_do_not_change_self_supervised_training(run, c):
    with_labels, without = run(c, True)[0], run(c, False)[0]
    assert_same_bits(weights(with_labels.folder), weights(without.folder))
    for a, b in zip(
        with_labels.model.glob("*.safetensors"), without.model.glob("*.safetensors"), strict=True
    ):
        assert a.read_bytes() == b.read_bytes()
    assert not {"speaker_accuracy", "recording_accuracy"} & without.numbers.keys()


BEYOND_THE_PAPER = {
    "recordings": ("unit=recording", "clusters=4", "neighbours=0"),
    "recordings-view": ("unit=recording", "clusters=4", "neighbours=0", "nearest_recordings=2", "level=view"),
    "agglomerative-view": ("clusterer=agglomerative", "clusters=null", "neighbours=1", "level=view"),
}
"""Options of SSPS that read more of the corpus or of themselves than its defaults do."""


@each(("name", "framework"), [*((name, "simclr") for name in BEYOND_THE_PAPER), ("recordings-view", "dino")])
def test_speakers_do_not_change_training_with_known_recordings(
    tiny_recipe, corpus, tmp_path, name, framework
):
    """Speakers make no difference to SSPS's further options, and an interrupted run ends with its bits."""
    options = [f"positives.{value}" for value in BEYOND_THE_PAPER[name]]

    def go(manifest: Path, folder: str) -> Trained:
        recipe = tiny_recipe(
            *options, f"data.manifest={manifest}", "training.batch=12", framework=framework, positives="ssps"
        )
        return train(recipe, tmp_path / folder, progress=False)

    with_labels, without = go(corpus.recorded_labelled, "with"), go(corpus.recorded, "without")
    assert_same_bits(weights(with_labels.folder), weights(without.folder))
    assert "speaker_accuracy" in with_labels.numbers and "speaker_accuracy" not in without.numbers
    known = ["recordings"] if "unit=recording" in BEYOND_THE_PAPER[name] else []
    assert load_model(without.folder).provenance["known"] == known
    if known:
        assert without.numbers["coverage"] > 0 and without.numbers["recording_accuracy"] == 0
        with pytest.raises(IdemvoxError, match=r"unit=recording needs the recording .* column `recording`"):
            go(corpus.unlabelled, "none")


@each("name", BEYOND_THE_PAPER)
def test_further_options_resume_within_an_epoch(tiny_recipe, corpus, tmp_path, monkeypatch, name):
    recipe = tiny_recipe(
        *(f"positives.{value}" for value in BEYOND_THE_PAPER[name]),
        f"data.manifest={corpus.recorded}",
        "training.batch=12",
        "training.save_steps=1",
        positives="ssps",
    )
    whole = train(recipe, tmp_path / "whole", progress=False)
    after, calls = FRAMEWORKS["simclr"].after_step, itertools.count(1)

    def interrupted(self: Framework, progress: float) -> None:
        after(self, progress)
        if next(calls) == 4:  # the second step of the second epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(FRAMEWORKS["simclr"], "after_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "part", progress=False)
    train(recipe, tmp_path / "part", resume=True, progress=False)
    assert_same_bits(state(tmp_path / "part"), state(whole.folder))
    assert next(calls) == 6


@each("c", SUPERVISED, ids=str)
def test_supervised_training_refuses_a_manifest_without_speakers(tiny_recipe, tmp_path, c):
    with pytest.raises(IdemvoxError, match=r"needs at least 2 classes.*speaker column"):
        train(make(tiny_recipe, c, False), tmp_path, progress=False)


@each("c", [c for c in ALL if not c.fits], ids=str)
def test_a_framework_without_positives_refuses_to_choose_them(tiny_recipe, tmp_path, c):
    with pytest.raises(IdemvoxError, match=rf"{c.framework} does not use positives.*positives\.name=same"):
        train(make(tiny_recipe, c, True), tmp_path, progress=False)


@each("c", CLOSELY, ids=str)
def test_an_interrupted_and_resumed_run_ends_with_the_same_bits(run, tiny_recipe, tmp_path, monkeypatch, c):
    """A run stopped within the second epoch resumes after the first and ends with the same bits."""
    cls = FRAMEWORKS[c.framework]
    after, calls = cls.after_step, itertools.count(1)

    def interrupted(self: Framework, progress: float) -> None:
        after(self, progress)
        if next(calls) == 3:
            raise KeyboardInterrupt

    recipe = make(tiny_recipe, c, True)
    monkeypatch.setattr(cls, "after_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path, progress=False)
    assert state(tmp_path)["done"] == 1 and not (tmp_path / "model").exists()
    resumed = train(recipe, tmp_path, resume=True, progress=False)
    assert resumed.epochs == 2 and next(calls) == 6  # two steps and no more
    whole = run(c, True)[0]
    assert_same_bits(state(tmp_path), state(whole.folder))
    assert (resumed.model / "model.safetensors").read_bytes() == (
        whole.model / "model.safetensors"
    ).read_bytes()
