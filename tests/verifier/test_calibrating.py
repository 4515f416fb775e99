"""idemvox calibrate: embeds as the verifier does, splits speakers, stores with the model."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from idemvox.audio.read import write_wav
from idemvox.cli import app
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.errors import CorpusError
from idemvox.model import build_encoder, load_model, save_model
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.verification.calibration import load_calibration
from idemvox.verification.drawing import make_trials
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import save_trials
from idemvox.verifier.calibrating import calibrate, hear_trials
from idemvox.verifier.verifier import Verifier

SPEAKERS, EACH = 12, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An untrained model: it hears pitch and timbre, and so can tell some voices apart."""
    torch.manual_seed(0)
    where = tmp_path_factory.mktemp("model")
    part = Part(name="fast_resnet34", **ENCODERS["fast_resnet34"].tiny)
    save_model(where, build_encoder(part, {"mels": 20}), part, {"mels": 20}, {}, scoring="cosine")
    return where


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """12 voices, each of its own pitch and brightness, in syllables; 4 utterances each, in 2 recordings."""
    root = tmp_path_factory.mktemp("calls")
    rng = np.random.default_rng(0)
    rows = []
    for s in range(SPEAKERS):
        for u in range(EACH):
            time = np.arange(round(rng.uniform(1.5, 4) * 16_000)) / 16_000
            pitch = 90 + 15 * s + 2 * np.sin(9 * time + rng.uniform(0, 6))
            phase = 2 * np.pi * np.cumsum(pitch) / 16_000
            tone = sum(np.sin(n * phase) / n ** (0.5 + s % 4 / 4) for n in range(1, 25))
            wave = 0.1 * tone * (np.sin(2 * np.pi * 1.5 * time) > -0.3) + 0.002 * rng.normal(size=len(time))
            write_wav(root / f"{s}/{u}.wav", wave)
            rows.append(
                Utterance(
                    f"{s}-{u}", f"{s}/{u}.wav", len(time) / 16_000, speaker=f"s{s}", recording=f"{s}{u % 2}"
                )
            )
    return Manifest(rows, root)


@pytest.fixture(scope="module")
def trials(calls):
    return make_trials(calls, "any", targets=60, impostors=1000, name="calls")


@pytest.fixture(scope="module")
def heard(folder, calls, trials):
    return hear_trials(load_model(folder), trials, calls)


@pytest.fixture(scope="module")
def found(heard):
    return calibrate(heard, durations=False)


def test_scores_are_those_of_the_verifier(folder, calls, trials, found):
    """The same two recordings have the same likelihood ratio in the calibration as in a verdict."""
    model = load_model(folder)
    verifier = Verifier(model.encoder, Scorer.of(model))
    vectors = {name: verifier.embed(calls.path(calls.by_id[name])) for name in trials.ids}
    scores = [verifier.scorer.score(vectors[one], vectors[other]) for _, one, other in trials]
    llrs = found.calibration.llr(scores)
    accepted = llrs >= found.calibration.threshold(0.05).llr
    assert np.mean(accepted[~trials.labels]) == pytest.approx(found.calibration.threshold(0.05).far, abs=2e-3)
    assert found.before.min_cllr == pytest.approx(found.after.min_cllr, abs=0.15)


def test_calibrated_on_all_speakers_and_judged_on_others(calls, trials, found):
    calibration = found.calibration
    assert calibration.speakers == SPEAKERS and found.speakers_known and found.without_speech == ()
    assert (calibration.targets, calibration.impostors) == (trials.targets, trials.impostors)
    assert found.after.cllr < found.before.cllr and found.with_durations is None
    assert calibration.conditions.recordings == len(calls) and calibration.conditions.narrow < 1
    pairs = [
        {n[-1] in "02" for n in pair} for same, *pair in trials if same
    ]  # utterances 0 and 2 are one recording
    assert calibration.conditions.across == np.mean([len(pair) == 2 for pair in pairs])


def test_durations_are_used_if_they_help_unless_told(heard):
    auto = calibrate(heard)
    assert auto.calibration.needs_durations == (auto.with_durations.cllr < auto.after.cllr)
    assert calibrate(heard, durations=True).calibration.needs_durations


def test_speakers_may_be_taken_from_the_target_trials(folder, calls, found):
    every = make_trials(calls, "any", targets=10**6, impostors=1000, name="calls")
    known, taken = (
        calibrate(hear_trials(load_model(folder), every, source), durations=False)
        for source in (calls, calls.without_labels())
    )
    assert known.speakers_known and not taken.speakers_known
    assert replace(known.calibration, conditions=None) == replace(taken.calibration, conditions=None)
    assert known.calibration.conditions.across is not None and taken.calibration.conditions.across is None


def test_recordings_without_speech_are_left_out(folder, calls, trials, tmp_path):
    write_wav(tmp_path / "silent.wav", np.zeros(32_000))
    name = trials.ids[0]
    rows = [replace(u, path=str(tmp_path / "silent.wav" if u.id == name else calls.path(u))) for u in calls]
    found = calibrate(hear_trials(load_model(folder), trials, Manifest(rows, Path("/"))), durations=False)
    assert found.without_speech == (name,)
    assert found.calibration.conditions.recordings == len(trials.ids) - 1


def test_too_few_speakers_are_refused(folder, calls):
    few = calls.select(lambda u: u.speaker not in ("s0", "s1", "s2"))
    trials = make_trials(few, "any", targets=40, impostors=100)
    with pytest.raises(CorpusError, match="needs 10 speakers"):
        calibrate(hear_trials(load_model(folder), trials, few))


def test_command_stores_with_the_model(folder, calls, trials, tmp_path):
    save_manifest(calls, calls.root / "calls.csv")
    save_trials(trials, tmp_path / "calls.txt")

    def run(*more):
        words = [
            "calibrate",
            str(folder),
            str(tmp_path / "calls.txt"),
            "--manifest",
            str(calls.root / "calls.csv"),
        ]
        result = CliRunner().invoke(app, [*words, "-q", "--device", "cpu", *more], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.output
        return result.output

    shown = run("--no-store", "--false-accept-rate", "0.001")
    assert "needs 30,000 impostor trials" in shown and load_calibration(folder) is None
    shown = run("--false-accept-rate", "0.05", "--no-durations")
    assert "Cllr" in shown and "95 % interval" in shown and "12 speakers" in shown
    stored = load_calibration(folder, "cosine")
    assert f"{stored.threshold(0.05).llr:.2f}" in shown
    values = json.loads(run("--json", "--false-accept-rate", "0.05", "--no-durations"))
    assert values["threshold"]["llr"] == stored.threshold(0.05).llr
    assert values["after"]["cllr"] < values["before"]["cllr"] and values["stored"].endswith(
        "calibration.json"
    )


def test_real_calls_and_readings(folder):
    """On real speech an untrained model is calibrated too; a clean threshold warns of a telephone call."""
    root = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))
    if not (root / "manifest.csv").exists():
        pytest.skip("no real speech: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    rows: dict[str, list[Utterance]] = {}
    call = None
    with (root / "manifest.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            if r["source"] == "speechocean762" and r["split"] == "dev":
                seconds = float(r["seconds"])
                one = Utterance(r["path"], r["path"], seconds, speaker=r["speaker"], recording=r["recording"])
                rows.setdefault(r["speaker"], []).append(one)
            elif r["source"] == "wuw2" and float(r["seconds"]) > 6:
                call = call or root / r["path"]
    manifest = Manifest([u for us in [*rows.values()][:12] for u in us[:4]], root)
    model = load_model(folder)
    found = calibrate(hear_trials(model, make_trials(manifest, "any", targets=72, impostors=800), manifest))
    assert found.after.cllr < found.before.cllr
    assert found.calibration.conditions.unfit()  # each speaker was recorded once
    verifier = Verifier(model.encoder, Scorer.of(model))
    assert any("4 kHz" in text for text in found.calibration.unlike(verifier.hear(call).facts))
    assert not found.calibration.unlike(verifier.hear(manifest.path(manifest[0])).facts)
