"""Kaldi data folders: segments, speakers, and commands that are not run."""

from __future__ import annotations

import pytest

from idemvox.corpus.checks import scan
from idemvox.corpus.importers.kaldi import prepare_kaldi
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError

from .trees import kaldi, tone


def test_segments_become_parts_and_each_recording_is_decoded_once(tmp_path, monkeypatch):
    kaldi(tmp_path / "in")
    decoded, plain = [], scan.examine
    monkeypatch.setattr(scan, "examine", lambda path, stop=None: (decoded.append(path), plain(path, stop))[1])
    prepare_kaldi(tmp_path / "in", tmp_path / "m.csv", progress=False)
    rows = [(u.id, u.speaker, u.recording, u.start, u.seconds) for u in load_manifest(tmp_path / "m.csv")]
    assert rows == [
        ("a-1", "a", "call1", 0.5, 2.5),
        ("a-2", "a", "call1", 3.0, 5.0),  # listed to end 0.2 s after its recording, and cut there
        ("b-1", "b", "call2", None, 8.0),
    ]
    assert len(decoded) == 2


def test_impossible_segments_are_left_out_with_a_reason(tmp_path):
    kaldi(tmp_path / "in")
    with (tmp_path / "in" / "segments").open("a") as file:
        file.write("c-1 call1 1 20\nc-2 call1 1 2.5\nc-3 call1 7.9 8.4\n")
    summary = prepare_kaldi(tmp_path / "in", tmp_path / "m.csv", progress=False)
    assert {p.path: p.reason for p in summary.left_out} == {
        "c-1": "ends after its file",
        "c-2": "shorter than 2 s",
        "c-3": "shorter than 2 s",
    }
    assert summary.taken == 3 and any("speaker unknown of 3 utterances" in note for note in summary.notes)


def test_a_broken_recording_is_one_problem_for_any_number_of_segments(tmp_path):
    kaldi(tmp_path / "in")
    (tmp_path / "in" / "audio" / "call1.wav").write_bytes(b"")
    (problem,) = prepare_kaldi(tmp_path / "in", tmp_path / "m.csv", progress=False).left_out
    assert problem.path.endswith("call1.wav")


def test_without_segments_and_with_relative_paths(tmp_path, monkeypatch):
    tone(tmp_path / "far" / "a b.wav")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wav.scp").write_text("a\tfar/a b.wav\n\n")
    prepare_kaldi(tmp_path / "data", tmp_path / "m.csv", root=tmp_path, progress=False)
    monkeypatch.chdir(tmp_path)
    prepare_kaldi("data", "n.csv", progress=False)
    (row,) = load_manifest(tmp_path / "m.csv")
    assert (row.id, row.path, row.speaker, row.recording) == ("a", "far/a b.wav", None, None)
    assert (tmp_path / "n.csv").read_bytes() == (tmp_path / "m.csv").read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("wav.scp", "a touch {}/ran |\n", r"wav\.scp, line 1: a comes from a command .* idemvox runs none"),
        ("wav.scp", "a | touch {}/ran\n", "comes from a command"),
        ("wav.scp", "a raw.ark:1234\n", r"line 1: a is in an archive \('raw\.ark:1234'\)"),
        ("wav.scp", "a\n", "line 1: expected 'name path', got 'a'"),
        ("wav.scp", "a x.wav\na y.wav\n", "line 2: a is listed twice"),
        ("wav.scp", "\n", "nothing is listed|not in wav.scp"),
        ("segments", "a-1 call1 0.5\n", r"segments, line 1: expected 'utterance recording start end'"),
        ("segments", "a-1 call9 0.5 3\n", "recording call9 is not in wav.scp"),
        ("segments", "a-1 call1 3 2\n", "line 1: 3 to 2 is not a part of a recording"),
        ("segments", "a-1 call1 soon 2\n", "is not a part of a recording"),
        ("segments", "a-1 call1 0 3\na-1 call1 3 6\n", "line 2: a-1 is listed twice"),
        ("utt2spk", "a-1\n", r"utt2spk, line 1: expected 'utterance speaker', got 'a-1'"),
    ],
)
def test_a_wrong_line_is_reported_and_no_command_is_run(tmp_path, name, text, says):
    kaldi(tmp_path / "in")
    (tmp_path / "in" / name).write_text(text.format(tmp_path))
    with pytest.raises(IdemvoxError, match=says):
        prepare_kaldi(tmp_path / "in", tmp_path / "m.csv", progress=False)
    assert not (tmp_path / "ran").exists()
