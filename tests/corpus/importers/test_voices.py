"""VOiCES: speakers and recordings from the names, trials in the manifest's ids."""

from __future__ import annotations

import pytest

from idemvox.corpus.importers.voices import prepare_voices
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.trials import load_trials

from .trees import voices, voices_name


@pytest.fixture
def tree(tmp_path):
    voices(tmp_path / "in")
    return tmp_path / "in" / "Development_Data" / "Speaker_Recognition"


@pytest.mark.parametrize("below", ["", "Development_Data/Speaker_Recognition"])
def test_models_become_their_files(tmp_path, tree, caplog, below):
    summary = prepare_voices(tmp_path / "in" / below, tmp_path / "m.csv", progress=False)
    manifest = load_manifest(tmp_path / "m.csv")
    trials = load_trials(tmp_path / "trials" / "voices2019-dev.txt")
    first = f"sid_dev/sp0032/{voices_name('sp0032')}.wav"
    assert (len(trials), trials.targets) == (8, 4) and trials.enrol[0] == first
    assert len(trial_utterances(trials, manifest)) == 6
    for same, a, b in trials:
        assert same == (manifest.by_id[a].speaker == manifest.by_id[b].speaker)
    assert (manifest.by_id[first].speaker, manifest.by_id[first].recording) == (
        "sp0032",
        "rm1-none-mc01-ch127535",
    )
    assert "8 trials" in summary.notes[0]
    assert "VOiCES 2019 dev has 4,038,656" in caplog.text


def test_trials_of_a_missing_file_are_kept_and_reported(tmp_path, tree):
    (tree / "sid_dev" / "sp0032" / f"{voices_name('sp0032')}.wav").unlink()
    summary = prepare_voices(tmp_path / "in", tmp_path / "m.csv", progress=False)
    assert len(load_trials(tmp_path / "trials" / "voices2019-dev.txt")) == 8
    assert "names 1 file left out, so it cannot be scored" in summary.notes[0]


@pytest.mark.parametrize("name", ["dev-enroll.lst", "dev-test.lst", "dev-trial-keys.lst"])
def test_a_missing_list_is_reported(tmp_path, tree, name):
    (tree / "sid_dev_lists_and_keys" / name).unlink()
    with pytest.raises(IdemvoxError) as caught:
        prepare_voices(tmp_path / "in", tmp_path / "m.csv", progress=False)
    looked_for, _, found = str(caught.value).partition("found")
    assert name in looked_for and name not in found and "sid_dev/" in found


@pytest.mark.parametrize(
    ("name", "line", "says"),
    [
        (
            "dev-trial-keys.lst",
            "nobody sid_dev/x.wav tgt",
            r"dev-trial-keys\.lst, line 9: expected 'model file",
        ),
        ("dev-trial-keys.lst", f"{voices_name('sp0032')} sid_dev/x.wav tgt", "line 9"),
        ("dev-trial-keys.lst", f"{voices_name('sp0032')} tgt", "line 9"),
        ("dev-enroll.lst", f"{voices_name('sp0032')} sid_dev/x.wav", r"line 3: a second file of model Lab41"),
        ("dev-enroll.lst", "lonely", r"line 3: expected 'model file', got 'lonely'"),
    ],
)
def test_a_wrong_line_is_reported_before_anything_is_decoded(tmp_path, tree, name, line, says):
    with (tree / "sid_dev_lists_and_keys" / name).open("a") as file:
        file.write(line + "\n")
    with pytest.raises(IdemvoxError, match=says):
        prepare_voices(tmp_path / "in", tmp_path / "m.csv", progress=False)
    assert not (tmp_path / "trials" / "voices2019-dev.txt").exists()
    assert not (tmp_path / "m.csv.partial").exists()
