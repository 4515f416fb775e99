"""VoxCeleb: ids of the official lists, several places and formats."""

from __future__ import annotations

import pytest

from idemvox.corpus.importers.voxceleb import prepare_voxceleb1, prepare_voxceleb2
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.verification.evaluation import trial_utterances
from idemvox.verification.trials import load_trials

from .trees import tone, voxceleb1, voxceleb2


@pytest.mark.parametrize("below", ["", "vox1_dev_wav", "vox1_dev_wav/wav"])
def test_ids_are_those_of_the_official_trial_lists(tmp_path, below):
    voxceleb1(tmp_path / "in")
    prepare_voxceleb1(tmp_path / "in" / below, tmp_path / "m.csv", progress=False)
    manifest = load_manifest(tmp_path / "m.csv")
    first = manifest[0]
    assert first.id == "id10001/1zcIwhmdeo4/00001.wav" and first.speaker == "id10001"
    assert first.recording == "id10001/1zcIwhmdeo4"
    assert first.path == "in/vox1_dev_wav/wav/id10001/1zcIwhmdeo4/00001.wav"
    assert manifest.speakers == ["id10001", "id10270"][: 1 if below else 2]


def test_official_trials_find_their_files_in_any_format(tmp_path):
    tone(tmp_path / "in" / "id10270" / "x6uYqmx31kE" / "00001.flac")
    tone(tmp_path / "in" / "id10271" / "8jEAjG6SegY" / "00008.wav")
    prepare_voxceleb1(tmp_path / "in", tmp_path / "m.csv", progress=False)
    (tmp_path / "t.txt").write_text("0 id10270/x6uYqmx31kE/00001.wav id10271/8jEAjG6SegY/00008.wav\n")
    assert len(trial_utterances(load_trials(tmp_path / "t.txt"), load_manifest(tmp_path / "m.csv"))) == 2


def test_converted_files_are_preferred_to_m4a_and_strays_are_left_out(tmp_path):
    voxceleb2(tmp_path / "in")
    tone(tmp_path / "in" / "dev" / "wav" / "id00012" / "21Uxsk56VDQ" / "00002.wav")
    tone(tmp_path / "in" / "dev" / "aac" / "id00012" / "intro.wav")
    summary = prepare_voxceleb2(tmp_path / "in", tmp_path / "m.csv", progress=False)
    ids = [u.id for u in load_manifest(tmp_path / "m.csv") if u.speaker == "id00012"]
    assert ids == [f"id00012/21Uxsk56VDQ/{n}" for n in ("00001.m4a", "00002.wav", "00003.m4a")]
    notes = "\n".join(summary.notes)
    assert "1 file of an utterance that has another file" in notes
    assert "1 file outside speaker/video/: not taken, e.g. dev/aac/id00012/intro.wav" in notes


def test_the_other_voxceleb_is_named(tmp_path):
    voxceleb1(tmp_path / "in")
    with pytest.raises(IdemvoxError, match="this is VoxCeleb1: idemvox prepare voxceleb1"):
        prepare_voxceleb2(tmp_path / "in", tmp_path / "m.csv", progress=False)
