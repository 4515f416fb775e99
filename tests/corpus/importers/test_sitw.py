"""SITW: trials over models become trials over files, speakers come from meta.lst."""

from __future__ import annotations

import pytest

from idemvox.corpus.importers.sitw import prepare_sitw
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError
from idemvox.verification.trials import load_trials

from .trees import sitw


def test_trials_and_speakers(tmp_path):
    sitw(tmp_path / "in" / "sitw_database.v4")
    summary = prepare_sitw(tmp_path / "in", tmp_path / "m.csv", progress=False)
    place = "sitw_database.v4"
    lists = {path.stem: load_trials(path) for path in (tmp_path / "trials").iterdir()}
    assert sorted(lists) == ["sitw-dev-core-core", "sitw-eval-core-core", "sitw-eval-core-multi"]
    assert list(lists["sitw-dev-core-core"]) == [
        (False, f"{place}/dev/audio/aaaaa.flac", f"{place}/dev/audio/bbbbb.flac"),
        (True, f"{place}/dev/audio/aaaaa.flac", f"{place}/dev/audio/ccccc.flac"),
        (False, f"{place}/dev/audio/bbbbb.flac", f"{place}/dev/audio/ccccc.flac"),
    ]
    by_id = load_manifest(tmp_path / "m.csv").by_id
    assert all(name in by_id for trials in lists.values() for name in trials.ids)
    about = by_id[f"{place}/dev/audio/ccccc.flac"]
    assert (about.speaker, about.recording) == ("ZPYJ", "3")
    assert by_id[f"{place}/eval/audio/ccccc.flac"].speaker is None
    assert any("speaker unknown of 4 files" in note for note in summary.notes)


def test_one_part_alone_is_prepared(tmp_path):
    sitw(tmp_path / "in")
    prepare_sitw(tmp_path / "in" / "eval", tmp_path / "m.csv", progress=False)
    assert load_manifest(tmp_path / "m.csv")[0].id == "audio/aaaaa.flac"
    assert load_trials(tmp_path / "trials" / "sitw-eval-core-core.txt").enrol[0] == "audio/aaaaa.flac"


@pytest.mark.parametrize("name", ["lists/enroll-core.lst", "lists/test-core.lst", "keys/core-core.lst"])
def test_a_missing_list_is_reported(tmp_path, name):
    sitw(tmp_path / "in")
    (tmp_path / "in" / "eval" / name).unlink()
    with pytest.raises(IdemvoxError, match=f"cannot read .*eval/{name}: No such file"):
        prepare_sitw(tmp_path / "in", tmp_path / "m.csv", progress=False)
