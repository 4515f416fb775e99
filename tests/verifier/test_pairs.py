"""Verdicts on many pairs, from Python and from the command line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from idemvox.audio.read import write_wav
from idemvox.cli import app
from idemvox.errors import IdemvoxError
from idemvox.model import build_encoder, save_model
from idemvox.recipe import Part
from idemvox.verification.calibration import Calibration, save_calibration
from idemvox.verification.operating import Point
from idemvox.verifier.pairs import COLUMNS, load_pairs, verify_pairs, write_pairs
from idemvox.verifier.verifier import Verifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model, recordings and pairs of them: b is broken, s is silent, c is missing."""
    folder = tmp_path_factory.mktemp("pairs")
    torch.manual_seed(0)
    part = Part(name="fast_resnet34", channels=[4, 8, 8, 8], dim=16)
    save_model(folder / "model", build_encoder(part, {}), part, {}, {}, scoring="cosine")
    time = np.arange(32_000) / 16_000
    for name, pitch in (("low", 90), ("same", 90), ("high", 400)):
        rng = np.random.default_rng(len(name))
        voice = sum(np.sin(2 * np.pi * n * pitch * time) / n for n in range(1, 12))
        voice = (voice + 0.1 * rng.standard_normal(len(time))) * np.abs(np.sin(2 * np.pi * 2 * time))
        write_wav(folder / f"calls/{name}.wav", 0.05 * voice)
    write_wav(folder / "calls/s.wav", np.zeros(32_000))
    (folder / "calls/b.wav").write_bytes(b"no audio")
    rows = [("low", "same"), ("low", "high"), ("s", "low"), ("b", "low"), ("low", "c"), ("same", "low")]
    lines = [f"{a}.wav,{n},{b}.wav" for n, (a, b) in enumerate(rows)]
    (folder / "calls/pairs.csv").write_text("\n".join(["first,n,second", *lines]) + "\n")
    return folder


def calibrate(folder: Path) -> float:
    """Accept what scores above the middle of the two pairs of voices; return that score."""
    verifier = Verifier.load(folder / "model")
    scores = [
        verifier.verify(folder / "calls/low.wav", folder / f"calls/{x}.wav").score for x in ("same", "high")
    ]
    middle = sum(scores) / 2
    assert scores[0] > middle
    fitted = Calibration(
        -middle, 1.0, (), 0.01, "cosine", "calls", 90, 900, 9, (Point(0.01, 0, 0.01, 0, 0.005, 0),)
    )
    save_calibration(folder / "model", fitted)
    return middle


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", *map(str, words)], env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


EXPECTED = ["accept", "reject", "abstain", "error", "error", "accept"]


def test_each_file_is_heard_once_and_a_broken_one_spoils_only_its_pairs(folder, tmp_path, monkeypatch):
    calibrate(folder)
    verifier, heard = Verifier.load(folder / "model"), Counter()
    hear = verifier.hear
    monkeypatch.setattr(verifier, "hear", lambda path: (heard.update([path.name]), hear(path))[1])
    pairs = load_pairs(folder / "calls/pairs.csv")
    results = verify_pairs(verifier, pairs, folder / "calls")
    assert [result.decision for result in results] == EXPECTED and set(heard.values()) == {1}
    assert "b.wav: not audio" in results[3].error and "c.wav: No such file" in results[4].error
    for index in (0, 1, 2, 5):
        alone = verifier.verify(*(folder / "calls" / name for name in pairs[index]))
        assert results[index].verdict.score == alone.score and results[index].verdict.speech == alone.speech
    write_pairs(tmp_path / "out.csv", results)
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [row["decision"] for row in rows] == EXPECTED
    assert float(rows[0]["score"]) == results[0].verdict.score and float(rows[0]["threshold"]) == 0
    assert "is silent" in rows[2]["reasons"] and rows[2]["score"] == "" and "not audio" in rows[3]["error"]


def test_pairs_by_command(folder, tmp_path):
    middle = calibrate(folder)
    pairs = ("--pairs", folder / "calls/pairs.csv", "--model", folder / "model", "-q")
    status, text = run(*pairs)
    assert status == 1 and "2 same speaker, 1 different speakers, 1 undecided, 2 unreadable" in text
    assert "is silent" in text and "not audio" in text
    status, text = run(*pairs, "--out", tmp_path / "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 7 and "out.csv" in text
    run(*pairs, "--out", tmp_path / "out.json")
    shown = json.loads(run(*pairs, "--json")[1])
    assert shown == json.loads((tmp_path / "out.json").read_text())
    assert [row["decision"] for row in shown] == EXPECTED
    assert shown[0]["llr"] == pytest.approx(shown[0]["score"] - middle)
    (tmp_path / "good.csv").write_text("first,second\nlow.wav,high.wav\n")
    good = ("--pairs", tmp_path / "good.csv", "--root", folder / "calls", "--model", folder / "model", "-q")
    assert run(*good)[0] == 0


@pytest.mark.parametrize(("other", "status"), [("same", 0), ("high", 3), ("s", 4)])
def test_the_exit_status_tells_the_decision(folder, other, status):
    calibrate(folder)
    words = (folder / "calls/low.wav", folder / f"calls/{other}.wav", "--model", folder / "model")
    found, text = run(*words)
    assert found == status and ("same speaker", "", "", "different speakers", "undecided")[status] in text
    found, text = run(*words, "--json")
    verdict = json.loads(text)
    assert found == status and verdict["decision"] == {0: "accept", 3: "reject", 4: "abstain"}[status]
    assert (
        verdict["threshold"]["llr"] == 0 and verdict["words"] and (verdict["score"] is None) == (status == 4)
    )
    assert run(*words, "--min-speech", 5)[0] == 4 and run(*words, "--far", 0.001)[0] == 4


def test_what_is_refused(folder, tmp_path):
    def refused(*words: object) -> str:
        result = CliRunner().invoke(app, ["verify", *map(str, words), "--model", str(folder / "model")])
        assert isinstance(result.exception, IdemvoxError), (result.output, result.exception)
        return str(result.exception)

    pairs = folder / "calls/pairs.csv"
    for words in ((), ("a",), ("a", "b", "c"), ("a", "b", "--pairs", pairs)):
        assert "two recordings, or --pairs" in refused(*words)
    assert "belong to --pairs" in refused("a", "b", "--out", "x.csv")
    assert "must end in .csv or .json" in refused("--pairs", pairs, "--out", "x.txt")
    assert "did you mean 'bandwidth'" in refused("a", "b", "--tolerate", "bandwith")
    assert "cannot read the pairs" in refused("--pairs", tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("one,two\na,b\n")
    assert "columns first and second, but has: one, two" in refused("--pairs", tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("first,second\na,b\na,\n")
    assert "line 3 of" in refused("--pairs", tmp_path / "a.csv")
