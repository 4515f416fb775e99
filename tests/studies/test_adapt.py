"""Adapting a model to unlabelled recordings: what is held out, the verdict, and resuming."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from idemvox.audio.read import write_wav
from idemvox.cli import app
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.model import load_model
from idemvox.studies import adapt as adapting
from idemvox.studies.adapt import FEWEST, AdaptOptions, adapt, pseudo_difference
from idemvox.training.loop import train
from idemvox.verification.bootstrap import Interval
from idemvox.verification.comparison import Difference
from idemvox.verification.metrics import eer

RECORDINGS = 44
QUICK = AdaptOptions(
    epochs=1, held_out=0.4, overrides=("training.workers=0", "framework.seconds=0.5", "positives.seconds=1")
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """44 files of harmonics, 4.2 s each and one of 12 s, each of its own pitch."""
    root, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    for n in range(RECORDINGS):
        time = np.arange(16_000 * (12 if n == 0 else 4) + 3_200) / 16_000
        tone = sum(np.sin(2 * np.pi * k * (80 + 7 * n) * time) / k for k in range(1, 12))
        write_wav(root / f"{n:02}.wav", 0.1 * tone + 0.005 * rng.normal(size=len(time)))
    return root


@pytest.fixture(scope="module")
def model(tiny_recipe, tmp_path_factory):
    return train(tiny_recipe("training.epochs=1"), tmp_path_factory.mktemp("model"), progress=False).model


def test_it_measures_on_recordings_that_it_does_not_train_on(recordings, model, tmp_path):
    found = adapt(recordings, model, tmp_path, QUICK, progress=False)
    learn, held = (load_manifest(tmp_path / name) for name in ("learn.csv", "held-out.csv"))
    parts = [{u.recording for u in manifest} for manifest in (learn, held)]
    assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == RECORDINGS
    assert (found.recordings, found.held_out) == (len(parts[0]), len(parts[1])) == (26, 18)
    assert all(u.speaker is None for manifest in (learn, held) for u in manifest)
    [cut] = [part for part in (learn, held) if "00.wav#1" in part.by_id]
    assert [u.start for u in cut if u.recording == "00.wav"] == [0, 6.1]
    assert load_model(tmp_path / "run").provenance["known"] == ["recordings"]
    assert (found.model is not None) == found.helped == (tmp_path / "model").exists()
    assert set(found.before) == set(found.after) and found.before != found.after
    stored = json.loads((tmp_path / "adaptation.json").read_text())
    assert stored["helped"] == found.helped and stored["after"] == found.after
    weights = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    assert adapt(recordings, model, tmp_path, QUICK, progress=False) == found  # nothing is trained again
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize("better", [True, False])
def test_the_adapted_model_is_kept_only_if_it_is_surely_better(
    recordings, model, tmp_path, monkeypatch, better
):
    interval = Interval(-0.05, -0.01 if better else 0.01, 1000)
    difference = Difference("EER", 0.2, 0.17, -0.03, interval, -0.15, None)
    monkeypatch.setattr(adapting, "pseudo_difference", lambda *given: difference)
    arguments = [recordings, "--from", model, "--out", tmp_path, "--epochs", 1, "--held-out", 0.4, "-q"]
    done = CliRunner().invoke(app, ["adapt", *map(str, arguments), *QUICK.overrides])
    assert done.exit_code == (0 if better else 3), done.output
    assert ("did not help, keep the old model" in done.output) != better
    assert "pseudo-EER 20.00 -> 17.00 %" in done.output
    assert (tmp_path / "model").exists() == better
    if better:
        adapted = load_model(tmp_path / "model").provenance["adapted"]
        assert adapted["from"] == str(model) and adapted["verdict"].startswith("helped")


def test_too_few_recordings_are_refused(recordings, model, tmp_path):
    (tmp_path / "few").mkdir()
    for file in sorted(recordings.iterdir())[: FEWEST - 1]:
        (tmp_path / "few" / file.name).symlink_to(file)
    with pytest.raises(CorpusError, match=f"{FEWEST - 1} recordings.*give more"):
        adapt(tmp_path / "few", model, tmp_path / "out", QUICK, progress=False)
    with pytest.raises(IdemvoxError, match="share between 0 and 1"):
        replace(QUICK, held_out=1.0)


def test_the_difference_is_that_of_the_pairs_of_different_recordings():
    rng = np.random.default_rng(1)
    recordings = np.array([0, 0, 1, 1, 2, 3, -1, -1, 4, 5])
    centres = rng.normal(size=(10, 8))
    good = np.stack([centres + 0.3 * rng.normal(size=(10, 8)) for _ in range(3)])
    poor = np.stack([centres + 2.0 * rng.normal(size=(10, 8)) for _ in range(3)])

    def pseudo_eer(x):
        """Pair by pair."""
        unit = x / np.linalg.norm(x, axis=2, keepdims=True)
        same = [float(unit[0, i] @ unit[2, i]) for i in range(10)]
        other = [
            float(unit[0, i] @ unit[2, j])
            for i in range(10)
            for j in range(10)
            if i != j and not recordings[i] == recordings[j] >= 0
        ]
        return eer(same + other, [1] * len(same) + [0] * len(other)).value

    found = pseudo_difference(poor, good, recordings)
    assert (found.a, found.b) == pytest.approx((pseudo_eer(poor), pseudo_eer(good)), abs=1e-9)
    assert found.difference < 0
    alike = pseudo_difference(good, good, recordings)
    assert alike.difference == 0 and not alike.excludes_zero
