"""enrol, identify and speakers, as typed by a user and as read by a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.verification.calibration import Calibration, save_calibration
from idemvox.verifier.sqlite import SqliteStore

run = CliRunner()


def call(*words, typed=None) -> str:
    """Run a command that should succeed and return what it printed."""
    result = run.invoke(app, [str(w) for w in words], env={"COLUMNS": "160"}, input=typed)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*words) -> str:
    """Run a command that should fail with a message, and return that."""
    result = run.invoke(app, [str(w) for w in words])
    assert isinstance(result.exception, IdemvoxError), (result.output, result.exception)
    return str(result.exception)


def model_folder(folder: Path, seed: int = 0) -> Path:
    part = Part(name="fast_resnet34", **ENCODERS["fast_resnet34"].tiny)
    torch.manual_seed(seed)
    encoder = build_encoder(part, {})
    save_model(folder, encoder, part, {}, {"recipe": "tiny"}, scoring="cosine")
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def voices(corpus) -> Path:
    return corpus.labelled.parent


def test_enrol_identify_list_show_delete(here, voices):
    model = ("--model", model_folder(here / "model"))
    a0, a1, b0 = voices / "s0/r0/0.wav", voices / "s0/r0/1.wav", voices / "s5/r0/0.wav"
    assert "Anna: 1 recording added, 1 in all; store: speakers.sqlite" in call("enrol", " Anna", a0, *model)
    text = call("enrol", "Anna", a0, a1, "--channel", "phone", *model)
    assert "0.wav was enrolled before" in text and "Anna: 1 recording added, 2 in all" in text
    added = json.loads(call("enrol", "[b]李[/b]", b0, *model, "--json"))
    assert added == {"speaker": "[b]李[/b]", "added": 1, "known": [], "enrolments": 1}

    text = call("identify", b0, *model)
    assert "no decision: the model is not calibrated" in text and "1.000" in text and "[b]李[/b]" in text
    found = json.loads(call("identify", b0, a1, *model, "--json", "--top", 1))
    assert [len(f["candidates"]) for f in found] == [1, 1] and found[0]["recording"] == str(b0)
    assert [f["candidates"][0]["speaker"] for f in found] == ["[b]李[/b]", "Anna"]
    assert found[1]["candidates"][0]["channel"] == "phone" and found[1]["comparisons"] == 3
    (phone,) = json.loads(call("identify", b0, *model, "--json", "--channel", "phone"))
    assert [c["speaker"] for c in phone["candidates"]] == ["Anna"] and phone["speaker"] is None

    text = call("speakers", "list")
    assert "Anna" in text and "none 1, phone 1" in text and "[b]李[/b]" in text and "2 speakers" in text
    rows = json.loads(call("speakers", "list", "--json"))
    assert [(r["speaker"], r["enrolments"], r["channels"]) for r in rows] == [
        ("[b]李[/b]", 1, {"": 1}),
        ("Anna", 2, {"": 1, "phone": 1}),
    ]
    assert "0.wav" in call("speakers", "show", "Anna")
    shown = json.loads(call("speakers", "show", "Anna", "--json"))
    assert [(e["source"], e["channel"]) for e in shown] == [("0.wav", ""), ("1.wav", "phone")]

    assert "2 enrolments deleted" in call("speakers", "delete", "Anna", typed="y\n")
    assert "did you mean" in refused("speakers", "delete", "[b]李[/b]!", "--yes")
    assert json.loads(call("speakers", "delete", "[b]李[/b]", "--yes", "--json"))["deleted"] == 1
    assert json.loads(call("speakers", "list", "--json")) == []
    assert "is empty: enrol somebody" in refused("identify", b0, *model)


def test_deletion_asks_first(here, voices):
    call("enrol", "Anna", voices / "s0/r0/0.wav", "--model", model_folder(here / "model"))
    result = run.invoke(app, ["speakers", "delete", "Anna"], input="n\n")
    assert result.exit_code == 1 and "Delete 1 enrolment of Anna?" in result.output
    assert "Anna" in call("speakers", "list")


def test_a_calibrated_model_may_find_nobody(here, voices):
    model = model_folder(here / "model")
    save_calibration(model, Calibration(-900.0, 1000.0, (), 0.5, "cosine", "calls", 9, 90, None, ()))
    call("enrol", "Anna", voices / "s0/r0/0.wav", "--model", model)
    assert "Anna: log-likelihood ratio 100.0" in call("identify", voices / "s0/r0/0.wav", "--model", model)
    save_calibration(model, Calibration(-9000.0, 1000.0, (), 0.5, "cosine", "calls", 9, 90, None, ()))
    assert "nobody: log-likelihood" in call("identify", voices / "s5/r1/0.wav", "--model", model)
    (found,) = json.loads(call("identify", voices / "s5/r1/0.wav", "--model", model, "--json"))
    assert found["decision"] == "nobody" and found["speaker"] is None and found["candidates"][0]["llr"] < 0


def test_export_and_import(here, voices):
    model = model_folder(here / "model")
    call("enrol", "Anna", voices / "s0/r0/0.wav", voices / "s0/r0/1.wav", "--model", model)
    assert "2 enrolments exported: all.jsonl" in call("speakers", "export", "all.jsonl", "-q")
    moved = ("--store", "moved.sqlite")
    assert "2 enrolments imported; store" in call("speakers", "import", "all.jsonl", *moved, "-q")
    assert "0 enrolments imported, 2 were there already" in call("speakers", "import", "all.jsonl", *moved)
    one, other = (json.loads(call("speakers", "show", "Anna", "--json", *at)) for at in ((), moved))
    assert one == other
    call("identify", voices / "s0/r0/0.wav", "--model", model, *moved)


def test_errors_say_what_to_do(here, voices):
    model, other = model_folder(here / "model"), model_folder(here / "other", seed=1)
    recording = voices / "s0/r0/0.wav"
    for words in (("speakers", "list"), ("identify", recording, "--model", model)):
        assert "there is no speaker store speakers.sqlite" in refused(*words)
    assert not (here / "speakers.sqlite").exists()
    assert "No such file" in refused("enrol", "Anna", "none.wav", "--model", model)
    assert "is empty: give one" in refused("enrol", " ", recording, "--model", model)
    call("enrol", "Anna", recording, "--model", model)
    for words in (("enrol", "Bert", recording), ("identify", recording)):
        assert "another model" in refused(*words, "--model", other)
    assert "is enrolled as 'Anna' already" in refused("enrol", "Bert", recording, "--model", model)
    assert "unknown speaker 'Bert'" in refused("speakers", "show", "Bert")
    with SqliteStore(here / "speakers.sqlite") as store:
        assert store.names() == ["Anna"]


def test_help_has_examples_and_names_the_store():
    for words in (("enrol",), ("identify",), ("speakers",)):
        text = call(*words, "--help")
        assert f"idemvox {words[0]}" in text and "Example" in text
    assert "speakers.sqlite" in call("enrol", "--help")
