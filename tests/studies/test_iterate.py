"""Rounds of pseudo-labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.corpus.manifest import load_manifest
from idemvox.corpus.pseudo import is_pseudo
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, load_model, save_model
from idemvox.pseudo.labelling import LabelOptions
from idemvox.studies import iterate
from idemvox.studies.iterate import CHANGE, Rounds
from idemvox.studies.jobs import TestSet
from idemvox.training.state.checkpoint import last_checkpoint, load_checkpoint
from idemvox.verification.drawing import make_trials

QUIET = Console(quiet=True)
STAGES = ("round-1", "round-2", "final")


@pytest.fixture(scope="module")
def start(tiny_recipe, tmp_path_factory) -> Path:
    """The model that labels first, with random weights."""
    recipe, folder = tiny_recipe(), tmp_path_factory.mktemp("start") / "model"
    torch.manual_seed(0)
    encoder = build_encoder(recipe.encoder, recipe.frontend)
    save_model(folder, encoder, recipe.encoder, recipe.frontend, {"recipe": "first"}, scoring="cosine")
    return folder


@pytest.fixture(scope="module")
def make(tiny_recipe, corpus, start, tmp_path_factory) -> Callable[..., Rounds]:
    """Return ``make(folder, *overrides, **fields)``: two rounds of one epoch."""
    tests = tmp_path_factory.mktemp("tests")
    trials = make_trials(corpus.manifest, "any", targets=20, seed=0)
    test = TestSet.make(trials, corpus.labelled, tests)

    def rounds(folder: Path, *overrides: str, **fields: object) -> Rounds:
        recipe = tiny_recipe(
            f"start_from={start}", "training.epochs=1", *overrides, labelled=True, framework="supervised_aam"
        )
        found = Rounds(folder, recipe, LabelOptions(clusters=5), count=2, tests=(test,))
        return replace(found, **fields)

    return rounds


@pytest.fixture(scope="module")
def done(make, tmp_path_factory) -> Rounds:
    """Two rounds, each continuing the one before, with gates of their own, and a last stage."""
    gate = ("framework.gate=fixed", "framework.gate_after=0")
    found = make(
        tmp_path_factory.mktemp("rounds"), *gate, weights="last", each={"framework.threshold": [40, 8]}
    )
    margin = found.recipe.override(["framework.margin=0.5", "training.lr=1e-30"])
    found = replace(found, final=margin)
    found.run(QUIET, progress=False)
    return found


def state(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(last_checkpoint(folder / "checkpoints"))["framework"]


def known(folder: Path) -> list[str]:
    return load_model(folder).provenance["known"]


def test_each_round_is_trained_on_labels_of_the_one_before(done):
    first, second = (load_manifest(done.pseudo(number)) for number in (1, 2))
    assert all(is_pseudo(u.speaker) for u in [*first, *second]) and len(first) == len(second) == 24
    about = [json.loads((done.folder / f"round-{n}" / "pseudo.csv.json").read_text()) for n in (1, 2)]
    assert about[0]["pseudo-speakers of"].startswith("first@")
    assert about[1]["pseudo-speakers of"].startswith("tiny-round-1@")
    assert known(done.folder / "round-1") == [f"pseudo-speakers of {about[0]['pseudo-speakers of']}"]
    assert known(done.folder / "round-2") == [f"pseudo-speakers of {about[1]['pseudo-speakers of']}"]
    assert known(done.folder / "final") == known(done.folder / "round-2")


def test_the_last_stage_continues_the_class_vectors_and_a_round_does_not(done):
    """Trap 36: a round begins at epoch 0 with vectors of its own, though there are as many clusters."""
    second, last = (state(done.folder / name) for name in ("round-2", "final"))
    assert torch.equal(second["classes"], last["classes"])
    began = [load_checkpoint(last_checkpoint(done.folder / name / "checkpoints"))["first"] for name in STAGES]
    assert began == [0, 0, 1]


def test_rows_by_round(done):
    rows = done.rows()
    assert [row["system"] for row in rows] == ["start", "round 1", "round 2", "last stage"]
    assert all(0 <= row["eer"][0] <= 1 for row in rows)
    for row in rows[1:]:
        assert row["clusters"] == 5 and row["utterances"] == 24 and 0 < row["purity"] <= 1
        assert "nmi" in row and 0 <= row["kept"] <= 1 and CHANGE in row
        assert row["known"].startswith("pseudo-speakers of")
    assert rows[1]["kept"] == 1 and "purity" not in rows[0]


def test_what_is_finished_is_not_repeated(done, monkeypatch):
    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("done already")

    monkeypatch.setattr(iterate, "run_job", refuse)
    monkeypatch.setattr(iterate, "label", refuse)
    done.run(QUIET, progress=False)
    with pytest.raises(IdemvoxError, match="other settings"):
        replace(done, labels=LabelOptions(clusters=4)).run(QUIET, progress=False)


def test_interrupted_rounds_end_with_the_same_bits(make, done, tmp_path, monkeypatch):
    again = replace(done, folder=tmp_path)
    for what in ("label", "run_job"):  # in the second round: before its labels, then before its training
        real, count = getattr(iterate, what), iter(range(9))

        def broken(*args: object, what=what, real=real, count=count, **more: object) -> object:
            if next(count) == 1 if what == "label" else args[0].folder.name == "round-2":
                raise KeyboardInterrupt
            return real(*args, **more)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(iterate, what, broken)
            again.run(QUIET, progress=False)
    assert again.pseudo(2).is_file() and not again.round(2).done
    again.run(QUIET, progress=False)
    for name in STAGES:
        one, other = state(tmp_path / name), state(done.folder / name)
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("weights", ["start", "last", "none"])
def test_what_a_round_starts_from(make, start, tmp_path, weights):
    rounds = make(tmp_path, weights=weights)
    expected = {"start": start, "last": tmp_path / "round-1", "none": None}[weights]
    assert rounds.round(2).recipe.start_from == expected
    assert rounds.round(1).recipe.start_from == (None if weights == "none" else start)


def test_speakers_of_the_corpus_are_not_needed_and_change_nothing(make, corpus, tmp_path):
    blind = make(tmp_path, f"data.manifest={corpus.unlabelled}", tests=(), count=1)
    seeing = make(tmp_path / "seeing", tests=(), count=1)
    for rounds in (blind, seeing):
        rounds.run(QUIET, progress=False)
    one, other = state(tmp_path / "round-1"), state(tmp_path / "seeing" / "round-1")
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    assert blind.rows()[0].keys() == {"system", "clusters", "utterances", "loss"}


@pytest.mark.parametrize(
    ("overrides", "fields", "says"),
    [
        (("framework.name=simclr",), {}, "choose a supervised recipe"),
        (("start_from=null",), {}, "who labels the corpus first"),
        ((), {"each": {"framework.margin": [1, 2, 3]}}, "one for each of the 2 rounds"),
        (("framework.margn=1",), {}, "did you mean 'framework.margin'"),
        (("data.manifest=[a.csv, b.csv]",), {}, "need one manifest"),
    ],
)
def test_what_does_not_fit_is_said_before_training(make, tmp_path, overrides, fields, says):
    with pytest.raises(IdemvoxError, match=says):
        make(tmp_path, *overrides, **fields).run(QUIET, progress=False)
    assert not list(tmp_path.iterdir())


def test_the_command(make, done, tmp_path, corpus, monkeypatch):
    recipe = done.recipe.override(["framework.gate=none"])
    recipe.save(tmp_path / "tiny.yaml")
    call = ["iterate", str(tmp_path / "tiny.yaml"), "framework.margin=0.1,0.2", "--rounds", "2", "-q"]
    call += ["--clusters", "4", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(app, call)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "pseudo-speakers" in shown.output and "purity" in shown.output and "round 2" in shown.output
    assert (tmp_path / "out" / "rounds.md").is_file()
    refused = CliRunner().invoke(app, [*call, "--trials", "t.txt"])
    assert isinstance(refused.exception, IdemvoxError) and "give both or neither" in str(refused.exception)
