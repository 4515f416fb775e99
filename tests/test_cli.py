"""The commands, as typed by a user, from audio to a verdict, and their error messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from idemvox.cli import app
from idemvox.corpus.manifest import load_manifest, save_manifest
from idemvox.errors import IdemvoxError
from idemvox.recipe import load_recipe
from idemvox.recipes import recipe_names
from idemvox.verification.score_files import read_scores
from idemvox.verifier.verifier import Verifier

run = CliRunner()


def call(*words: object) -> str:
    """Run a command that should succeed and return what it printed."""
    result = run.invoke(app, [str(w) for w in words], env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def undecided(*words: object) -> str:
    """Run a `verify` that should abstain and return what it printed."""
    result = run.invoke(app, [str(w) for w in words], env={"COLUMNS": "160"})
    assert result.exit_code == 4, (result.output, result.exception)
    assert "undecided" in result.output and "not calibrated: run `idemvox calibrate`" in result.output
    return result.output


def refused(*words: object) -> str:
    """Run a command that should fail with a message, and return that."""
    result = run.invoke(app, [str(w) for w in words])
    assert isinstance(result.exception, IdemvoxError), (result.output, result.exception)
    return str(result.exception)


@pytest.fixture(scope="module")
def home(corpus, tmp_path_factory) -> Path:
    """A folder of recordings s*/r*/*.wav, a tiny recipe and trials, as a user would have them."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(corpus.labelled.parent, home / "calls", ignore=shutil.ignore_patterns("*.csv", "banks"))
    (home / "tiny.yaml").write_text(
        "encoder: {name: fast_resnet34, channels: [4, 8, 8, 8], dim: 16}\n"
        "framework: {name: simclr, seconds: 0.3}\n"
        "augment: {simulated_rooms: 2}\n"
        "training: {epochs: 1, batch: 8, workers: 0}\n"
    )
    lines = [f"1 s{s}/r0/0.wav s{s}/r1/1.wav" for s in range(6)]
    lines += [f"0 s{s}/r0/0.wav s{(s + 1) % 6}/r1/1.wav" for s in range(6)]
    (home / "trials.txt").write_text("\n".join(lines) + "\n")
    return home


@pytest.fixture(scope="module")
def trained(home) -> Path:
    out = home / "calls.csv"
    text = call("prepare", "folder", home / "calls", "--out", out, "--speaker-from", "{speaker}/*/*", "-q")
    assert "24" in text
    shown = call("train", home / "tiny.yaml", f"data.manifest={out}", "--out", home / "run", "-q")
    assert "model:" in shown and "loss" in shown
    return home / "run"


def test_from_a_folder_to_a_verdict(home, trained):
    a, b = home / "calls" / "s0" / "r0" / "0.wav", home / "calls" / "s0" / "r1" / "0.wav"
    assert "score" in undecided("verify", a, b, "--model", trained)
    text = call(
        "evaluate", trained, home / "trials.txt", "--root", home / "calls", "--out", home / "r.json", "-q"
    )
    assert "EER %" in text and "minDCF p=0.01" in text
    (report,) = json.loads((home / "r.json").read_text())
    assert report["targets"] == 6 and report["impostors"] == 6
    verdict = undecided("verify", a, a, "--model", trained)
    assert "1.000, at or above" in verdict and "where the error rates on the trials 'trials'" in verdict


def test_two_models_on_the_same_trials(home, trained):
    lists = (home / "trials.txt", "--manifest", home / "calls.csv")
    text = call("evaluate", trained, *lists, "--against", trained, "--no-store", "-q")
    assert "+0.00 points (+0.00 to +0.00)" in text and "minDCF p=0.05" in text
    assert "speakers resampled, the same for both" in " ".join(text.split())
    text = call(
        "evaluate", trained, lists[0], "--root", home / "calls", "--against", trained, "--no-store", "-q"
    )
    assert "+0.00 points" in text and "speakers resampled" not in " ".join(text.split())


def test_a_certificate_is_written_and_checked(home, trained):
    pytest.importorskip("pyarrow")
    trials, folder = home / "trials.txt", home / "certificate"
    lists = (trials, "--manifest", home / "calls.csv", "--no-store", "-q")
    assert "check-report" in call("evaluate", trained, *lists, "--certificate", folder)
    assert "every number" in call("check-report", folder, "--model", trained, "--trials", trials)
    values = json.loads((folder / "certificate.json").read_text())
    assert "simclr" in values["model"]["recipe"] and set(values["metrics"]["EER"]) == {"value", "low", "high"}
    page = home / "report.html"
    assert "report.html" in call("report", folder, "--manifest", home / "calls.csv", "--out", page)
    assert "DET curves" in page.read_text() and "shorter side" in page.read_text()
    values["metrics"]["EER"]["value"] = 0.001
    (folder / "certificate.json").write_text(json.dumps(values))
    result = run.invoke(app, ["check-report", str(folder)])
    assert result.exit_code == 1
    assert "EER is stated as 0.001; the scores give" in result.output and "was changed" in result.output


def test_a_back_end_is_fitted_shown_applied_and_removed(home, trained, tmp_path):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    (model / "report.json").unlink(missing_ok=True)
    assert "scored by: cosine" in call("backend", model)
    text = call("backend", model, home / "calls.csv", "--top", 5, "-q")
    assert "scored by: AS-norm (top 5 of 24 utterances) of the mean-subtracted cosine" in text
    call("evaluate", model, home / "trials.txt", "--root", home / "calls", "-q")
    assert "AS-norm" in json.loads((model / "report.json").read_text())["scoring"]
    plda = ("backend", model, home / "calls.csv", "--scoring", "plda", "-q")
    assert "PLDA log-likelihood ratio (4 pseudo-speakers)" in call(*plda, "--clusters", 4)
    assert not (model / "report.json").exists()
    assert "PLDA log-likelihood ratio (6 speakers)" in call(*plda, "--labels")
    assert "--clusters" in refused(*plda) and "not both" in refused(*plda, "--remove")
    assert "back end removed" in call("backend", model, "--remove")
    assert "no back end" in call("backend", model, "--remove")


def test_crops_are_scored_and_their_threshold_is_not_stored(home, trained, tmp_path):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    (model / "report.json").unlink(missing_ok=True)
    out = tmp_path / "r.json"
    words = ("--root", home / "calls", "--out", out, "--crops", 3, "--crop-seconds", 0.3, "-q")
    assert "not stored" in call("evaluate", model, home / "trials.txt", *words)
    assert json.loads(out.read_text())[0]["scoring"] == "cosine of 3 crops of 0.3 s, mean of all pairs"
    assert not (model / "report.json").exists()


def test_speech_alone_is_scored_as_the_verifier_scores_it(home, trained, tmp_path):
    pytest.importorskip("pyarrow")
    lists = (home / "trials.txt", "--root", home / "calls", "--speech-only", "--no-store", "-q")
    call("evaluate", trained, *lists, "--certificate", tmp_path / "c")
    assert "every number" in call("check-report", tmp_path / "c", "--trials", home / "trials.txt")
    values = json.loads((tmp_path / "c" / "certificate.json").read_text())
    assert values["scoring"] == "cosine of speech alone"
    verifier, rows = Verifier.load(trained), read_scores(tmp_path / "c" / "scores.parquet")
    for score, *pair in list(zip(rows.scores, rows.enrol, rows.test, strict=True))[::4]:
        verdict = verifier.verify(*(home / "calls" / name for name in pair))
        assert verdict.score == pytest.approx(score, abs=1e-5)
    assert "without --crops" in refused("evaluate", trained, *lists, "--crops", 3)


def test_embed_writes_files_that_numpy_reads(home, trained):
    out = home / "e.npz"
    assert "24 embeddings of 16 numbers" in call("embed", trained, home / "calls.csv", "--out", out, "-q")
    with np.load(out) as found:
        assert found["matrix"].shape == (24, 16) and found["ids"][0] == "s0/r0/0.wav"
        matrix = found["matrix"]
    for name in ("one", "two"):
        call("embed", trained, home / "calls.csv", "--out", home / name, "--cache", home / "kept", "-q")
        assert np.array_equal(np.load(home / name / "matrix.npy", mmap_mode="r"), matrix)
    assert "another model, list or kind" in refused(
        "embed", trained, home / "calls/s0/r0/0.wav", "--out", home / "one"
    )


def test_picture_of_a_manifest_and_of_trials(home, trained, tmp_path):
    plots = pytest.importorskip("matplotlib.image")
    listed = ("--manifest", home / "calls.csv", "--speakers", 4, "--utterances", 3, "-q")
    text = call("picture", trained, trained / "model", *listed, "--out", tmp_path / "two.png")
    assert "12 utterances of 4 speakers" in text
    call("picture", trained, *listed, "--out", tmp_path / "one.png")
    one, two = (plots.imread(tmp_path / name) for name in ("one.png", "two.png"))
    assert one.shape[0] == two.shape[0] and two.shape[1] > 1.5 * one.shape[1]
    tried = ("--trials", home / "trials.txt", "--out", tmp_path / "trials.png", "-q")
    assert "12 utterances of 6 speakers" in call("picture", trained, *tried, "--root", home / "calls")
    assert "12 utterances of 6 speakers" in call("picture", trained, *tried, "--manifest", home / "calls.csv")
    assert (tmp_path / "trials.png").is_file()


def test_the_panels_of_a_picture(home, trained, tmp_path, monkeypatch):
    """Both models embed the same utterances, and the speakers come from the manifest."""
    drawn = []
    monkeypatch.setattr(
        "idemvox.reports.picture.tsne_picture", lambda panels, out, seed: drawn.append((panels, seed))
    )
    shutil.copytree(trained / "model", tmp_path / "other" / "model")
    call("picture", trained, tmp_path / "other", "--manifest", home / "calls.csv", "--seed", 5, "-q")
    ((first, second), seed) = drawn[0]
    assert seed == 5 and (first[0], second[0]) == ("run", "other")
    assert first[1].shape == (24, 16) and np.array_equal(first[1], second[1])
    assert first[2:] == second[2:]
    manifest = load_manifest(home / "calls.csv")
    assert list(zip(*first[2:], strict=True)) == [(u.speaker, u.recording or "") for u in manifest]
    call("picture", trained, trained / "model", "--manifest", home / "calls.csv", "-q")
    assert [panel[0] for panel in drawn[1][0]] == [str(trained), str(trained / "model")]


def test_picture_refuses_impossible_input(home, trained, tmp_path, corpus):
    listed, tried = ("--manifest", home / "calls.csv"), ("--trials", home / "trials.txt")
    assert "--manifest, or --trials" in refused("picture", trained)
    assert "--manifest, or --trials" in refused("picture", trained, "--root", home, *listed)
    assert "not both" in refused("picture", trained, *tried, *listed, "--root", home)
    assert "--speaker-from" in refused("picture", trained, "--manifest", corpus.unlabelled)
    assert "not a model folder" in refused("picture", tmp_path, *listed)
    assert "no manifest" in refused("picture", trained, "--manifest", home / "cals.csv")
    assert "cannot read the trial list" in refused("picture", trained, "--trials", home / "none.txt")
    assert "check the folder" in refused("picture", trained, *tried, "--root", tmp_path)
    one = load_manifest(home / "calls.csv").select(lambda u: u.speaker == "s1")
    save_manifest(one, home / "one.csv")
    assert "at least two speakers" in refused("picture", trained, "--manifest", home / "one.csv")


def test_continuing_with_ssps(home, trained):
    shown = call(
        "train",
        home / "tiny.yaml",
        f"data.manifest={home / 'calls.csv'}",
        f"start_from={trained}",
        "positives={name: ssps, clusters: 6, seconds: 0.5}",
        "--out",
        home / "ssps",
        "-q",
    )
    assert "coverage" in shown and "speaker accuracy" in shown
    assert "2 epochs" in shown  # one of each


def test_a_sweep_scores_every_combination_and_resumes(home, trained):
    common = (
        "sweep",
        home / "tiny.yaml",
        f"data.manifest={home / 'calls.csv'}",
        f"start_from={trained}",
        "positives={name: ssps, clusters: 6, seconds: 0.5}",
        *("--trials", home / "trials.txt", "--manifest", home / "calls.csv", "--out", home / "sweep", "-q"),
    )
    clusters = "positives.clusters=4,6"
    for wrong, message in (
        ("positives.neighbours=0,-1", "positives.neighbours at least 0"),
        ("positives.clustres=4,6", "did you mean 'positives.clusters'"),
        ("seed=1", "nothing to sweep"),
        ("positives.neighbours=1,1", "two combinations of this sweep are the same"),
        ("seed=0,1", "for several seeds use --seeds"),
    ):
        assert message in refused(*common, wrong)
    (home / "more").mkdir()
    shutil.copy(home / "trials.txt", home / "more")
    assert "the same name" in refused(*common, clusters, "--trials", home / "more" / "trials.txt")
    assert not list((home / "sweep").glob("*/seed-*/log.jsonl"))
    shown = call(*common, clusters, "positives.neighbours=1")
    assert "clusters 4" in shown and "clusters 6" in shown and "2 combinations" in shown
    before = {file: file.stat().st_mtime_ns for file in (home / "sweep").glob("*/seed-*/done.json")}
    assert len(before) == 2
    call(*common, "positives.neighbours=1", clusters)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    call(*common, "positives.clusters=4,5,6", "positives.neighbours=1")
    rows = json.loads((home / "sweep" / "sweep.json").read_text())["rows"]
    assert [row["system"] for row in rows] == ["clusters 4", "clusters 5", "clusters 6"]
    assert all(len(row["eer"]) == 1 and 0 <= row["coverage"][0] <= 1 for row in rows)
    differences = [row.get("EER against the first") for row in rows]
    assert differences[0] is None and all(" points (" in text and " to " in text for text in differences[1:])
    assert "other data or with other settings" in refused(*common, "training.lr=0.1", clusters)


def test_a_trial_list_is_drawn_from_a_manifest(home, trained, tmp_path):
    out = tmp_path / "held-out.txt"
    given = ("trials", "make", home / "calls.csv", "--out", out, "--kind", "any")
    given = (*given, "--targets", 20, "--impostors", 30)
    assert "20 same-speaker and 30 different-speaker trials" in call(*given)
    first = out.read_text()
    assert first.count("\n1 ") + first.startswith("1 ") == 20
    assert "exists already" in refused(*given)
    call(*given, "--force")
    assert out.read_text() == first
    assert "column gender" in refused(*given, "--force", "--same-gender")


def test_i_vectors_use_the_same_commands(home, tmp_path):
    """From the recipe to a verdict, as with a network."""
    call("prepare", "folder", home / "calls", "--out", tmp_path / "calls.csv", "-q")
    small = ("encoder.components=12", "encoder.dim=6", "training.epochs=2", "training.workers=0")
    run = tmp_path / "run"
    shown = call("train", "ivector", *small, f"data.manifest={tmp_path / 'calls.csv'}", "--out", run, "-q")
    assert "ivector: 2 epochs" in shown and "gain" in shown
    assert "24 embeddings of 6" in call("embed", run, tmp_path / "calls.csv", "--out", tmp_path / "e", "-q")
    assert "EER %" in call("evaluate", run, home / "trials.txt", "--root", home / "calls", "-q")
    a = home / "calls" / "s0" / "r0" / "0.wav"
    assert "1.000, at or above" in undecided("verify", a, a, "--model", run)


def test_recipes_are_listed_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = {line.split()[0]: line for line in call("recipes").splitlines()[4:] if line.strip()}
    assert sorted(rows) == recipe_names()
    for name, line in rows.items():
        recipe = load_recipe(name)
        assert recipe.description and " ".join(recipe.description.split()) in line
        assert recipe.published is None or f"{recipe.published.eer:.2f}" in line
    (tmp_path / "mine.yaml").write_text("description: another\n")
    assert "data.manifest=[vox1.csv,vox2.csv]" in rows["finetune-ge2e-voxceleb12"]  # brackets are shown
    assert "another" in call("recipes", tmp_path) and "simclr" not in call("recipes", tmp_path)


def test_a_recipe_is_copied_to_be_edited(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in recipe_names():
        assert f"{name}.yaml" in call("recipes", "--copy", name)
        assert load_recipe(f"{name}.yaml") == load_recipe(name)
    assert "simclr.yaml exists already" in refused("recipes", "--copy", "simclr")
    assert "did you mean 'simclr'" in refused("recipes", "--copy", "simcrl")


def test_messages_say_what_to_do(home, trained, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "looked for" in refused("prepare", "folder", tmp_path / "empty")
    assert "tiny.yaml" in refused("train", home / "tinny.yaml")
    assert "did you mean 'framework.temperature'" in refused(
        "train", home / "tiny.yaml", "framework.temprature=1"
    )
    assert "idemvox prepare folder" in refused("train", home / "tiny.yaml", "--out", tmp_path / "x")
    assert "--resume" in refused(
        "train", home / "tiny.yaml", f"data.manifest={home / 'calls.csv'}", "--out", trained
    )
    assert "set data.held_out=FILE" in refused("train", home / "tiny.yaml", "--keep", "best")
    assert "not a model folder" in refused("verify", "a.wav", "b.wav", "--model", tmp_path)
    assert "No such file" in refused("verify", tmp_path / "a.wav", tmp_path / "b.wav", "--model", trained)
    assert "not both" in refused(
        "evaluate", trained, home / "trials.txt", "--root", ".", "--manifest", "m.csv"
    )


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "idemvox.cli", "train", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: no recipe") and "Traceback" not in done.stderr
    )
