"""Preparing: good files are taken, bad ones are listed with a reason, and a scan can be interrupted."""

from __future__ import annotations

import csv
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

from idemvox.audio.decoders import SUFFIXES
from idemvox.audio.read import read
from idemvox.corpus.checks import scan
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.manifest import load_manifest
from idemvox.corpus.prepare import Summary, path_pattern, prepare_folder, prepare_table
from idemvox.errors import IdemvoxError

FORMATS = {".flac": None, ".mp3": "MPEG_LAYER_III", ".ogg": "VORBIS", ".opus": "OPUS", ".wav": None}


def tone(path: Path, seconds: float = 2.5, rate: int = 16000, channels: int = 1, level: float = 0.3) -> Path:
    """Write a tone with a little noise, in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(len(path.name)).standard_normal((len(t), channels))
    wave = level * np.sin(2 * np.pi * 300 * t)[:, None] + 0.1 * level * noise
    kind = {".opus": "OGG"}.get(path.suffix.lower(), path.suffix[1:].upper())
    soundfile.write(path, wave, rate, format=kind, subtype=FORMATS[path.suffix.lower()])
    return path


def prepare(folder: Path, out: Path, **options: object) -> Summary:
    return prepare_folder(folder, out, workers=2, progress=False, **options)  # type: ignore[arg-type]


def reasons(summary: Summary) -> dict[str, str]:
    return {problem.path: problem.reason for problem in summary.left_out}


def shown(summary: Summary) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(summary.table())
    return console.export_text()


def test_five_formats_any_case_any_script(tmp_path: Path) -> None:
    for suffix in FORMATS:
        tone(tmp_path / "in" / "声" / f"a ü{suffix}", seconds=2.5)
        tone(tmp_path / "in" / f"B{suffix.upper()}", seconds=3)
    summary = prepare(tmp_path / "in", tmp_path / "in" / "m.csv")
    manifest = load_manifest(tmp_path / "in" / "m.csv")
    expected = sorted([f"B{s.upper()}" for s in FORMATS] + [f"声/a ü{s}" for s in FORMATS])
    assert [u.id for u in manifest] == [u.path for u in manifest] == expected
    assert summary.taken == 10 and summary.left_out == () and summary.problems is None
    assert summary.hours == pytest.approx(27.5 / 3600, rel=1e-3)
    assert summary.speakers is None and {u.speaker for u in manifest} == {None}
    for u in manifest:
        assert u.seconds == pytest.approx(len(read(manifest.path(u))) / 16000, abs=1e-3)
    assert not list((tmp_path / "in").glob("*.partial"))


def test_bad_files_are_left_out_each_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    tone(folder / "good.wav")
    tone(folder / "short.wav", seconds=1.5)
    tone(folder / "silent.flac", level=5e-4)
    (folder / "zero.wav").write_bytes(b"")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    (folder / "noise.flac").write_bytes(np.random.default_rng(0).bytes(20_000))
    wave = np.full(40_000, 0.1, dtype=np.float32)
    wave[30_000] = np.nan
    soundfile.write(folder / "nan.wav", wave, 16000, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(40_000, 3000.0), 16000, subtype="FLOAT")
    for suffix in (".wav", ".flac", ".mp3"):
        path = tone(folder / f"cut{suffix}", seconds=6)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    path = tone(folder / "hole.opus", seconds=8)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes(2000) + whole[len(whole) // 2 + 2000 :])
    (folder / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")

    summary = prepare(folder, tmp_path / "m.csv")

    assert [u.id for u in load_manifest(tmp_path / "m.csv")] == ["good.wav"]
    assert reasons(summary) == {
        "cut.flac": "truncated",
        "cut.mp3": "truncated",
        "cut.wav": "truncated",
        "dangling.wav": "cannot be read",
        "empty.wav": "empty",
        "hole.opus": "truncated",
        "loud.wav": "not scaled to [-1, 1]",
        "nan.wav": "NaN or infinite samples",
        "noise.flac": "cannot be read",
        "noise.mp3": "cannot be read",
        "short.wav": "shorter than 2 s",
        "silent.flac": "silent",
        "zero.wav": "cannot be read",
    }
    assert summary.problems == tmp_path / "m.problems.csv"
    with summary.problems.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == sorted(reasons(summary))
    assert {row["path"]: row["reason"] for row in rows} == reasons(summary)
    details = {problem.path: problem.detail for problem in summary.left_out}
    assert details["short.wav"] == "1.50 s" and details["cut.wav"] == "only 3.6 s of 6.0 s can be decoded"
    table = shown(summary)
    assert "1 files" not in table and "13" in table and "noise.flac" in table and "m.problems.csv" in table
    assert "good.wav" not in table


def test_ignored_files_are_counted_by_kind(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    for name in ("a.txt", "b.TXT", "c.pdf", "README", ".hidden"):
        (tmp_path / "in" / name).write_text("")
    summary = prepare(tmp_path / "in", tmp_path / "m.csv")
    assert "5 files ignored: 2 .txt, 1 .pdf, 1 hidden, 1 without suffix" in summary.notes
    for number in range(20):
        (tmp_path / "in" / f"x.s{number}").write_text("")
    notes = prepare(tmp_path / "in", tmp_path / "m.csv").notes
    assert any(n.startswith("25 files ignored: 2 .txt") and "and 16 more kinds" in n for n in notes)


def test_problems_of_an_earlier_run_are_removed(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav")
    tone(tmp_path / "in" / "b.wav", seconds=1)
    assert prepare(tmp_path / "in", tmp_path / "m.csv").problems is not None
    assert prepare(tmp_path / "in", tmp_path / "m.csv", min_seconds=0.5).problems is None
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["m.csv"]


def test_rates_and_channels_are_noted_not_left_out(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav", rate=8000)
    tone(tmp_path / "in" / "b.wav", rate=44100, channels=2)
    tone(tmp_path / "in" / "c.wav", channels=3)
    summary = prepare(tmp_path / "in", tmp_path / "m.csv")
    assert [(u.rate, u.seconds) for u in load_manifest(tmp_path / "m.csv")] == [
        (8000, 2.5),
        (44100, 2.5),
        (16000, 2.5),
    ]
    notes = "\n".join(summary.notes)
    assert "1 at 8 kHz" in notes and "1 at 44.1 kHz" in notes and "2 files with several channels" in notes
    assert all(note in shown(summary) for note in summary.notes)


def test_channels_that_cancel_are_taken_and_noted(tmp_path: Path) -> None:
    """Their average is silence, so the louder channel is used, as in reading."""
    wave = np.sin(np.arange(40_000) / 5)
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.stack([0.5 * wave, -0.52 * wave], 1), 16000)
    soundfile.write(tmp_path / "in" / "still.wav", np.stack([1e-5 * wave, -1e-5 * wave], 1), 16000, "FLOAT")
    tone(tmp_path / "in" / "b.wav", channels=2)
    summary = prepare(tmp_path / "in", tmp_path / "m.csv")
    assert reasons(summary) == {"still.wav": "silent"} and summary.taken == 2
    cancel = "1 file with channels that cancel each other: the louder one is read, not their average"
    assert cancel in summary.notes


def test_silence_around_speech_does_not_count(tmp_path: Path) -> None:
    """It has a reason of its own, with the length of the sound; silence within speech counts as speech."""
    sound = soundfile.read(tone(tmp_path / "in" / "whole.wav", 2.5))[0]
    for name, pieces in {
        "before": [np.zeros(48_000), sound[:16_000]],
        "after": [sound[:24_000], 1e-4 * np.random.default_rng(0).standard_normal(160_000)],
        "long": [np.zeros(16_000), sound, np.zeros(16_000)],
        "pause": [sound[:12_000], np.zeros(16_000), sound[:12_000]],
    }.items():
        soundfile.write(tmp_path / "in" / f"{name}.wav", np.concatenate(pieces), 16_000)
    summary = prepare(tmp_path / "in", tmp_path / "m.csv")
    why = "shorter than 2 s without the silence around it"
    assert reasons(summary) == {"before.wav": why, "after.wav": why}
    details = {problem.path: problem.detail for problem in summary.left_out}
    assert details["before.wav"] == "1.00 s from the first sound to the last, of 4.00 s"
    assert details["after.wav"] == "1.50 s from the first sound to the last, of 11.50 s"
    assert {u.path: u.seconds for u in load_manifest(tmp_path / "m.csv")}["in/long.wav"] == 4.5
    assert not prepare(tmp_path / "in", tmp_path / "m.csv", min_seconds=0.9).left_out


def test_a_streamed_wav_and_an_unterminated_ogg_are_taken(tmp_path: Path) -> None:
    """Recorders that do not know the length write one that is too large; such files are not broken."""
    path = tone(tmp_path / "in" / "a.wav")
    head = bytearray(path.read_bytes())
    head[4:8] = head[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(head))
    path = tone(tmp_path / "in" / "b.ogg", seconds=12)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    summary = prepare(tmp_path / "in", tmp_path / "m.csv")
    assert summary.taken == 2
    assert any("1 Ogg file" in note and "without an end mark" in note for note in summary.notes)


def test_hidden_files_are_skipped_and_links_followed_once(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    tone(folder / "z" / "a.wav")
    tone(folder / ".hidden.wav")
    tone(folder / ".git" / "b.wav")
    tone(tmp_path / "elsewhere" / "c.wav")
    (folder / "a-link-to-z").symlink_to(folder / "z")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (folder / "notes.txt").write_text("")
    os.mkfifo(folder / "pipe.wav")
    found = find_audio(folder)
    assert found.files == ["elsewhere/c.wav", "z/a.wav"]
    assert found.others == {".txt": 1, "": 1, "hidden": 2, "pipe or device": 1}  # "": the link to itself


@pytest.mark.parametrize(
    ("kind", "pattern", "path", "label"),
    [
        ("speaker", "{speaker}/*/*", "id10001/1zcIwhmdeo4/00001.wav", "id10001"),
        ("recording", "{speaker}/{recording}/*", "id10001/1zcIwhmdeo4/00001.wav", "1zcIwhmdeo4"),
        ("speaker", "*/{speaker}/*", "id10001/1zcIwhmdeo4/00001.wav", "1zcIwhmdeo4"),
        ("speaker", "{speaker}/*", "id10001/1zcIwhmdeo4/00001.wav", None),
        ("speaker", "{speaker}/**", "id10001/1zcIwhmdeo4/00001.wav", "id10001"),
        ("speaker", "**/{speaker}/*/*", "train/clean/103/1240/103-1240-0000.flac", "103"),
        ("speaker", "{speaker}-*-*.flac", "103-1240-0000.flac", "103"),
        ("recording", "*-{recording}-*.flac", "103-1240-0000.flac", "1240"),
        ("recording", "{recording}/{recording}/*", "anna/session1/a.wav", "anna/session1"),
        ("speaker", "spk.{speaker}/*", "spkX7/a.wav", None),
        ("speaker", "{speaker}/*", "új\nsor/a.wav", "új\nsor"),
    ],
)
def test_patterns_match_paths(kind: str, pattern: str, path: str, label: str | None) -> None:
    assert path_pattern(kind, pattern)(path) == label


def test_labels_from_the_path(tmp_path: Path) -> None:
    for name in ("anna/s1/a.wav", "anna/s2/b.wav", "bo/s1/c.wav", "stray.wav"):
        tone(tmp_path / "in" / name)
    summary = prepare(
        tmp_path / "in",
        tmp_path / "m.csv",
        speaker_from="{speaker}/*/*",
        recording_from="{recording}/{recording}/*",
    )
    manifest = load_manifest(tmp_path / "m.csv")
    assert [(u.speaker, u.recording) for u in manifest] == [
        ("anna", "anna/s1"),
        ("anna", "anna/s2"),
        ("bo", "bo/s1"),
        (None, None),
    ]
    assert summary.speakers == 2
    assert sum("stray.wav" in note and "1 of 4 files" in note for note in summary.notes) == 2


@pytest.mark.parametrize(
    ("pattern", "says"), [("*/*", r"has no \{speaker\}"), ("{speaker}/x/*", "matches no file.*'anna/a.wav'")]
)
def test_impossible_patterns_are_refused(tmp_path: Path, pattern: str, says: str) -> None:
    tone(tmp_path / "in" / "anna" / "a.wav")
    with pytest.raises(IdemvoxError, match=says):
        prepare(tmp_path / "in", tmp_path / "m.csv", speaker_from=pattern)
    assert not (tmp_path / "m.csv").exists()


def test_folders_without_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IdemvoxError, match="no folder"):
        prepare(tmp_path / "none", tmp_path / "m.csv")
    (tmp_path / "in").mkdir()
    with pytest.raises(IdemvoxError, match="no audio in") as caught:
        prepare(tmp_path / "in", tmp_path / "m.csv")
    assert all(suffix in str(caught.value) for suffix in SUFFIXES)
    (tmp_path / "in" / "a.pdf").write_bytes(b"")
    with pytest.raises(IdemvoxError, match=r"found 1 \.pdf$"):
        prepare(tmp_path / "in", tmp_path / "m.csv")
    with pytest.raises(IdemvoxError, match="is not a folder"):
        prepare(tmp_path / "in" / "a.pdf", tmp_path / "m.csv")
    with pytest.raises(IdemvoxError, match="is a folder; give the manifest"):
        prepare(tmp_path / "in", tmp_path)


def test_all_files_bad_is_an_error_with_the_reasons_and_no_manifest(tmp_path: Path) -> None:
    tone(tmp_path / "in" / "a.wav", seconds=1)
    tone(tmp_path / "in" / "b.wav", seconds=1)
    tone(tmp_path / "in" / "c.wav", level=0)
    with pytest.raises(
        IdemvoxError, match=r"no usable audio in .*: 2 shorter than 2 s, 1 silent; e\.g\. a\.wav"
    ):
        prepare(tmp_path / "in", tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()
    assert (tmp_path / "m.problems.csv").exists()


def break_off(monkeypatch: pytest.MonkeyPatch, after: int) -> list[str]:
    """Raise KeyboardInterrupt after so many files; return the list of decoded files."""
    decoded: list[str] = []
    plain, lock = scan.examine, threading.Lock()

    def examine(path: Path, stop: threading.Event | None = None) -> scan.Facts:
        with lock:
            decoded.append(path.name)
            if len(decoded) > after:
                raise KeyboardInterrupt
        return plain(path, stop)

    monkeypatch.setattr(scan, "examine", examine)
    return decoded


def test_an_interrupted_scan_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(12):
        tone(tmp_path / "in" / f"{index:02}.wav", seconds=2 + index / 10)
    prepare(tmp_path / "in", tmp_path / "straight.csv")
    folder, out = tmp_path / "in", tmp_path / "m.csv"

    with monkeypatch.context() as patch:
        break_off(patch, after=6)
        with pytest.raises(
            KeyboardInterrupt, match=r"stopped after \d+ of 12 files; run the same command again"
        ):
            prepare_folder(folder, out, workers=1, progress=False)
    assert not out.exists()
    with (tmp_path / "m.csv.partial").open("a") as journal:
        journal.write('["/half/a/li')  # as a killed scan leaves it
    done = [json.loads(line)[0] for line in (tmp_path / "m.csv.partial").read_text().splitlines()[1:-1]]
    assert 1 <= len(done) <= 6
    os.utime(done[0], ns=(0, 10**18))  # changed since, so it must be checked again

    decoded = break_off(monkeypatch, after=99)
    prepare_folder(folder, out, workers=1, progress=False)
    known = {Path(name).name for name in done[1:]}
    assert sorted(decoded) == sorted({f"{index:02}.wav" for index in range(12)} - known)
    assert list(load_manifest(out)) == list(load_manifest(tmp_path / "straight.csv"))
    assert not (tmp_path / "m.csv.partial").exists()


def test_files_with_faults_are_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be read for a passing reason is not remembered as bad."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(b"junk")
    with pytest.raises(IdemvoxError):
        prepare(tmp_path / "in", tmp_path / "m.csv")
    decoded = break_off(monkeypatch, after=99)
    with pytest.raises(IdemvoxError):
        prepare(tmp_path / "in", tmp_path / "m.csv")
    assert decoded == ["a.wav"]


def table(tmp_path: Path, content: str) -> Path:
    for name in ("a", "b", "c"):
        tone(tmp_path / "audio" / f"{name}.wav")
    (tmp_path / "audio" / "list.csv").write_text(content, encoding="utf-8")
    return tmp_path / "audio" / "list.csv"


def test_a_table_and_a_selection_of_its_rows(tmp_path: Path) -> None:
    listed = table(
        tmp_path,
        "path,speaker,recording,seconds,split\n"
        "a.wav,anna,call1,99,train\n"
        "b.wav,,,99,dev\n"
        "c.wav,carl,,99,held-out\n"
        "c.wav,carl,,98,held-out\n",
    )
    summary = prepare_table(
        listed, tmp_path / "m.csv", where={"split": "train, held-out"}, workers=1, progress=False
    )
    manifest = load_manifest(tmp_path / "m.csv")
    assert [(u.id, u.path, u.seconds, u.speaker, u.recording) for u in manifest] == [
        ("a.wav", "audio/a.wav", 2.5, "anna", "call1"),
        ("c.wav", "audio/c.wav", 2.5, "carl", None),
    ]
    assert summary.speakers == 2 and summary.taken == 2
    assert any("1 repeated row" in note for note in summary.notes)


def test_a_table_with_ids_absolute_paths_and_another_root(tmp_path: Path) -> None:
    tone(tmp_path / "far" / "x.wav")
    listed = table(tmp_path, f"id,path\n1,a.wav\n2,a.wav\n3,{tmp_path}/far/x.wav\n4,gone.wav\n")
    (tmp_path / "lists").mkdir()
    moved = listed.rename(tmp_path / "lists" / "list.csv")
    summary = prepare_table(
        moved, tmp_path / "lists" / "m.csv", root=tmp_path / "audio", workers=1, progress=False
    )
    manifest = load_manifest(tmp_path / "lists" / "m.csv")
    assert [(u.id, u.path) for u in manifest] == [
        ("1", "../audio/a.wav"),
        ("2", "../audio/a.wav"),
        ("3", "../far/x.wav"),
    ]
    assert all(manifest.path(u).exists() for u in manifest)
    assert reasons(summary) == {"gone.wav": "cannot be read"}


@pytest.mark.parametrize(
    ("content", "where", "says"),
    [
        ("file,speaker\na.wav,x\n", {}, r"list\.csv, line 1: no column 'path' \(found file, speaker\)"),
        ("path,split\na.wav,x\n,x\n", {}, r"list\.csv, line 3: empty path"),
        ("path,id\na.wav,1\nb.wav,\n", {}, r"list\.csv, line 3: empty id"),
        ("path,id\na.wav,1\nb.wav,1\n", {}, r"list\.csv, line 3: '1' is also on line 2"),
        ("path,speaker\na.wav,x\na.wav,y\n", {}, r"list\.csv, line 3: 'a\.wav' is also on line 2"),
        ("path,split\na.wav\n", {}, r"list\.csv, line 2: 1 fields where the header has 2"),
        ("path,split\na.wav,train\n", {"spilt": "train"}, "unknown column 'spilt'; did you mean 'split'"),
        (
            "path,split\na.wav,train\nb.wav,dev\n",
            {"split": "test"},
            "no row has split=test.*split: dev, train",
        ),
        ("path,split\n", {}, "has no rows"),
        ("", {}, r"line 1: no column 'path' \(found nothing\)"),
    ],
)
def test_a_wrong_table_is_reported_with_its_line(
    tmp_path: Path, content: str, where: dict[str, str], says: str
) -> None:
    with pytest.raises(IdemvoxError, match=says):
        prepare_table(table(tmp_path, content), tmp_path / "m.csv", where=where, progress=False)


def test_a_table_is_not_overwritten(tmp_path: Path) -> None:
    listed = table(tmp_path, "path\na.wav\n")
    with pytest.raises(IdemvoxError, match="choose another output"):
        prepare_table(listed, listed, progress=False)
    with pytest.raises(IdemvoxError, match="cannot read the table"):
        prepare_table(tmp_path / "none.csv", tmp_path / "m.csv", progress=False)


def test_progress_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tone(tmp_path / "in" / "a.wav")
    prepare_folder(tmp_path / "in", tmp_path / "m.csv")
    out, err = capfd.readouterr()
    assert out == "" and "checking audio" in err
