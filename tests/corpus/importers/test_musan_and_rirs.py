"""MUSAN in pieces, RIRS_NOISES by room."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.audio.read import read
from idemvox.corpus.importers.musan import prepare_musan
from idemvox.corpus.importers.rirs import prepare_rirs
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError

from .trees import musan, rirs, tone


def test_pieces_are_parts_of_files(tmp_path):
    musan(tmp_path / "in")
    done = prepare_musan(tmp_path / "in", tmp_path / "musan.csv", progress=False)
    assert [s.manifest.name for s in done] == [f"musan.{kind}.csv" for kind in ("noise", "music", "speech")]
    noise = load_manifest(tmp_path / "musan.noise.csv")
    assert [(u.id, u.start, u.seconds) for u in noise] == [
        ("noise/free-sound/noise-free-sound-0000.wav#0000", 0.0, 5.0),
        ("noise/free-sound/noise-free-sound-0000.wav#0001", 5.0, 5.0),
        ("noise/free-sound/noise-free-sound-0000.wav#0002", 10.0, 1.5),
        ("noise/sound-bible/noise-sound-bible-0000.wav#0000", 0.0, 5.0),
        ("noise/sound-bible/noise-sound-bible-0000.wav#0001", 5.0, 5.0),  # half a second is left: not kept
    ]
    assert {u.recording for u in noise} == {
        "noise/free-sound/noise-free-sound-0000.wav",
        "noise/sound-bible/noise-sound-bible-0000.wav",
    }
    whole = read(noise.path(noise[0]))
    parts = [read(noise.path(u), round((u.start or 0) * 16000), round(u.seconds * 16000)) for u in noise[:3]]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert [u.seconds for u in load_manifest(tmp_path / "musan.speech.csv")] == [3.0]


def test_other_lengths_of_pieces_and_missing_kinds(tmp_path):
    tone(tmp_path / "in" / "music" / "a.wav", seconds=4)
    (done,) = prepare_musan(tmp_path / "in", tmp_path / "m.csv", piece=2, progress=False)
    assert [u.start for u in load_manifest(done.manifest)] == [0.0, 2.0] and done.unit == "piece"
    with pytest.raises(IdemvoxError, match="shorter than the shortest to take"):
        prepare_musan(tmp_path / "in", tmp_path / "m.csv", piece=0.5, progress=False)
    (tmp_path / "in" / "noise").mkdir()
    with pytest.raises(IdemvoxError, match=r"no audio in .*noise"):
        prepare_musan(tmp_path / "in", tmp_path / "m.csv", progress=False)


@pytest.mark.parametrize("below", ["", "RIRS_NOISES"])
def test_simulated_responses_are_taken_by_room_and_real_ones_on_request(tmp_path, below):
    rirs(tmp_path / "in")
    prepare_rirs(tmp_path / "in" / below, tmp_path / "m.csv", progress=False)
    rows = load_manifest(tmp_path / "m.csv")
    assert rows[0].id == "simulated_rirs/largeroom/Room200/Room200-00001.wav"
    assert {u.recording for u in rows} == {
        "largeroom/Room200",
        "mediumroom/Room001",
        "smallroom/Room001",
        "smallroom/Room002",
    }
    prepare_rirs(tmp_path / "in" / below, tmp_path / "m.csv", real=True, progress=False)
    (real,) = [u for u in load_manifest(tmp_path / "m.csv") if "real" in u.id]  # not the noise beside it
    assert real.id.endswith("air_type1_air_binaural_office_0_1.wav") and real.recording == "real/air_office"
    (tmp_path / "in" / "RIRS_NOISES" / "real_rirs_isotropic_noises" / "rir_list").unlink()
    with pytest.raises(IdemvoxError, match="rir_list: No such file"):
        prepare_rirs(tmp_path / "in" / below, tmp_path / "m.csv", real=True, progress=False)
