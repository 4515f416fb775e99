"""The doctor: it names every problem, reports none in good audio, and compares official counts."""

from __future__ import annotations

import csv
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import soxr
from rich.console import Console
from typer.testing import CliRunner

from idemvox.audio.read import read, to_pcm
from idemvox.audio.sound import CLIPPED, TELEPHONE, Sound
from idemvox.cli import app
from idemvox.corpus.checks import listen as listening
from idemvox.corpus.checks import scan
from idemvox.corpus.checks.doctor import Diagnosis, examine_corpus
from idemvox.corpus.checks.listen import listen
from idemvox.corpus.checks.official import corpora, count, recognise
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.errors import IdemvoxError

RATE = 16_000


def speech(seed: int, seconds: float = 3.0, peak: float = 0.5) -> np.ndarray:
    """A wavering voice in syllables, its harmonics falling by 9 dB an octave to 7.5 kHz, with some hiss."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(110 + 5 * seed % 90 + 4 * np.sin(2 * np.pi * 3 * t)) / RATE
    wave = sum(np.sin(n * phase + rng.uniform(0, 6)) / n**1.5 for n in range(1, 40))
    wave = wave * np.abs(np.sin(2 * np.pi * 2 * t + seed)) + 0.01 * rng.standard_normal(len(t))
    return peak * wave / np.abs(wave).max()


def save(path: Path, wave: np.ndarray, rate: int = RATE, subtype: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".opus": "OGG"}.get(path.suffix, path.suffix[1:].upper())
    coded = {".opus": "OPUS", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}.get(path.suffix, "PCM_16")
    wave = to_pcm(wave) if (subtype or coded) == "PCM_16" and wave.dtype != np.int16 else wave
    soundfile.write(path, wave, rate, format=kind, subtype=subtype or coded)
    return path


def examine(source: Path, **options: Any) -> Diagnosis:
    return examine_corpus(source, **{"workers": 2, "progress": False} | options)


def manifest(file: Path, *rows: Utterance) -> Path:
    save_manifest(Manifest(rows, file.parent), file)
    return file


def row(path: str, seconds: float = 3.0, speaker: str | None = None, **more: Any) -> Utterance:
    return Utterance(more.pop("id", path), path, seconds, more.pop("rate", RATE), speaker, **more)


def found(diagnosis: Diagnosis) -> dict[str, tuple[str, str]]:
    """Reason and severity by id (or path); no utterance may have two."""
    by_id = {p.id or p.path: (p.reason, "error" if p.serious else "warning") for p in diagnosis.problems}
    assert len(by_id) == len(diagnosis.problems)
    return by_id


def heard(wave: np.ndarray, tmp_path: Path, rate: int = RATE, name: str = "x.wav") -> Sound:
    return listen(save(tmp_path / name, wave, rate)).sounds[0]


def test_good_speech_has_no_problems(tmp_path: Path) -> None:
    for seed, suffix in enumerate((".wav", ".flac", ".ogg", ".opus", ".mp3")):
        save(tmp_path / "in" / f"a{suffix}", speech(seed))
        save(tmp_path / "in" / "loud" / f"a{suffix}", speech(10 + seed, peak=0.98))
    save(tmp_path / "in" / "quiet.wav", speech(20, peak=0.003))
    save(tmp_path / "in" / "studio.wav", soxr.resample(speech(21), RATE, 44_100), 44_100)
    save(tmp_path / "in" / "call.wav", soxr.resample(speech(22), RATE, 8_000), 8_000, "ULAW")
    save(tmp_path / "in" / "stereo.flac", np.stack([speech(23), speech(24)], 1), RATE)
    diagnosis = examine(tmp_path / "in")
    assert found(diagnosis) == {} and not diagnosis.failed(strict=True)
    assert diagnosis.utterances == diagnosis.files == 14 and diagnosis.corpus is None
    assert diagnosis.hours == pytest.approx(14 * 3 / 3600, rel=0.01)
    assert diagnosis.listing.read_text() == "path,id,problem,severity,detail\n"
    assert [path.name for path in (tmp_path / "in").glob("doctor*")] == ["doctor.csv"]
    assert any("1 at 8 kHz" in note for note in diagnosis.notes)


def test_the_decoder_of_each_kind_is_noted(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.wav", "b.wav", "c.opus")):
        save(tmp_path / "in" / name, speech(seed))
    with av.open(str(tmp_path / "in" / "d.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        wave = speech(9)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = RATE
        for part in (frame, None):
            container.mux(stream.encode(part))
    assert "read: 1 .opus, 2 .wav by libsndfile; 1 .m4a by PyAV" in examine(tmp_path / "in").notes


def test_channels_that_cancel_are_a_warning(tmp_path: Path) -> None:
    wave = speech(1)
    save(tmp_path / "in" / "a.wav", np.stack([wave, -wave], 1))
    save(tmp_path / "in" / "b.wav", np.stack([speech(2), speech(3)], 1))
    assert found(examine(tmp_path / "in")) == {"a.wav": ("channels cancel each other", "warning")}


def test_silence_around_speech_does_not_count(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.wav", np.r_[np.zeros(RATE), speech(1, seconds=1.5), np.zeros(RATE)])
    save(tmp_path / "in" / "b.wav", speech(2, seconds=2.2))
    why = "shorter than 2 s without the silence around it"
    assert found(examine(tmp_path / "in")) == {"a.wav": (why, "error")}


def test_every_problem_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    save(folder / "good.wav", speech(1))
    save(folder / "short.wav", speech(2, seconds=1.5))
    save(folder / "silent.flac", speech(3, peak=5e-4))
    (folder / "zero.wav").write_bytes(b"")
    save(folder / "empty.wav", np.zeros(0))
    (folder / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(20_000))
    save(folder / "nan.wav", np.r_[speech(4), np.nan], subtype="FLOAT")
    save(folder / "unscaled.wav", 20_000 * speech(5), subtype="FLOAT")
    for seed, suffix in enumerate((".wav", ".flac", ".mp3")):
        path = save(folder / f"cut{suffix}", speech(6 + seed, seconds=6))
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    path = save(folder / "unended.ogg", speech(9, seconds=12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    save(folder / "clipped.wav", np.clip(2 * speech(10), -0.5, 0.5))
    save(folder / "upsampled.wav", soxr.resample(soxr.resample(speech(11), RATE, 8_000), 8_000, RATE))
    save(folder / "twice.flac", speech(1))
    (folder / "dangling.wav").symlink_to(tmp_path / "nowhere.wav")

    diagnosis = examine(folder, out=tmp_path / "p.csv")

    assert found(diagnosis) == {
        "clipped.wav": ("clipped", "warning"),
        "cut.flac": ("truncated", "error"),
        "cut.mp3": ("truncated", "error"),
        "cut.wav": ("truncated", "error"),
        "dangling.wav": ("missing", "error"),
        "empty.wav": ("empty", "error"),
        "nan.wav": ("NaN or infinite samples", "error"),
        "noise.mp3": ("cannot be read", "error"),
        "short.wav": ("shorter than 2 s", "error"),
        "silent.flac": ("silent", "error"),
        "twice.flac": ("duplicate audio", "warning"),
        "unended.ogg": ("no end mark", "warning"),
        "unscaled.wav": ("not scaled to [-1, 1]", "error"),
        "upsampled.wav": ("nothing above 4 kHz", "warning"),
        "zero.wav": ("cannot be read", "error"),
    }
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["id"]: (r["problem"], r["severity"]) for r in rows} == found(diagnosis)
    assert [r["path"] for r in rows] == sorted(found(diagnosis))
    details = {r["id"]: r["detail"] for r in rows}
    assert details["twice.flac"] == "same as good.wav"
    assert details["cut.wav"].endswith("of 6.0 s can be decoded")
    assert details["upsampled.wav"].endswith("8-kHz audio in a file of 16 kHz")
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(diagnosis.table())
    shown = console.export_text()
    assert "16 utterances" in shown and "Errors" in shown and "Warnings" in shown and "p.csv" in shown
    assert "good.wav:" not in shown and "truncated" in shown


@pytest.mark.parametrize("level", [1.0, 0.3, 0.01])
def test_clipping_is_found_at_any_level_and_loudness_is_not_clipping(tmp_path: Path, level: float) -> None:
    voice = speech(1, peak=1.0)
    assert heard(level * np.clip(2 * voice, -1, 1), tmp_path).clipped > 4 * CLIPPED
    assert heard(level * np.minimum(2 * voice, 1) / 2, tmp_path).clipped > 2 * CLIPPED  # on one side only
    assert heard(level * voice, tmp_path).clipped < CLIPPED / 5


def test_flat_tops_are_runs_of_three_at_the_extremes(tmp_path: Path) -> None:
    wave = np.zeros(1000, dtype=np.int16)
    wave[100:103], wave[200:202], wave[300:304], wave[400:410] = 900, 900, -800, 700
    assert heard(wave, tmp_path).clipped == (3 + 4) / 1000
    higher = np.r_[wave, np.int16(901)]
    assert heard(higher, tmp_path).clipped == round(4 / 1001, 6)


@pytest.mark.parametrize("rate", [12_000, 16_000, 44_100, 48_000])
def test_telephone_bandwidth_is_found(tmp_path: Path, rate: int) -> None:
    narrow = soxr.resample(speech(1), RATE, 8_000)
    assert heard(soxr.resample(narrow, 8_000, rate), tmp_path, rate).above < TELEPHONE - 5
    assert heard(soxr.resample(speech(1), RATE, rate), tmp_path, rate).above > TELEPHONE + 10
    assert heard(soxr.resample(narrow, 8_000, rate), tmp_path, rate, "x.flac").above < TELEPHONE - 5
    assert math.isnan(heard(narrow, tmp_path, 8_000).above)


def test_a_dull_voice_and_wider_bands_are_not_telephone_bandwidth(tmp_path: Path) -> None:
    spectrum = np.fft.rfft(speech(1))
    hertz = np.fft.rfftfreq(3 * RATE, 1 / RATE)
    dull = np.fft.irfft(spectrum / (1 + (hertz / 1000) ** 2))  # a further 12 dB an octave above 1 kHz
    assert heard(dull, tmp_path).above > TELEPHONE
    wider = np.fft.irfft(spectrum * (hertz < 5500))  # 11-kHz audio
    assert heard(wider, tmp_path).above > TELEPHONE


def test_equal_audio_is_found_in_any_format(tmp_path: Path) -> None:
    wave = to_pcm(speech(1))
    save(tmp_path / "a.wav", wave)
    save(tmp_path / "b.flac", wave)
    save(tmp_path / "c.wav", np.stack([wave, wave], 1))
    save(tmp_path / "d.wav", wave / 32768, subtype="FLOAT")
    save(tmp_path / "e.wav", wave, 16_001)  # another header
    other = wave.copy()
    other[20_000] += 1
    save(tmp_path / "f.wav", other)
    save(tmp_path / "g.wav", wave[:-1])
    assert found(examine(tmp_path)) == {
        f: ("duplicate audio", "warning") for f in ("b.flac", "c.wav", "d.wav", "e.wav")
    }


def test_equal_audio_of_two_speakers_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / f"{name}.wav", speech(1))
    rows = [row("a.wav", 3, "ann"), row("b.wav", 3, "bo"), row("c.wav", 3, "ann"), row("d.wav", 3)]
    diagnosis = examine(manifest(tmp_path / "m.csv", *rows))
    assert found(diagnosis) == {
        "b.wav": ("same audio under two speakers", "error"),
        "c.wav": ("duplicate audio", "warning"),
        "d.wav": ("duplicate audio", "warning"),
    }
    assert diagnosis.problems[0].detail == "speaker bo, but ann in a.wav"
    assert diagnosis.listing == tmp_path / "m.doctor.csv" and diagnosis.speakers == 2


def test_silent_and_broken_files_are_not_equal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.wav", np.zeros(48_000))
        (tmp_path / f"{name}.mp3").write_bytes(b"")
    assert {reason for reason, _ in found(examine(tmp_path)).values()} == {"silent", "cannot be read"}


def test_a_manifest_that_disagrees_with_its_files_is_reported(tmp_path: Path) -> None:
    for seed, name in enumerate(("right", "long", "short", "rate")):
        save(tmp_path / f"{name}.wav", speech(seed))
    rows = [row("right.wav", 3.01), row("long.wav", 2.5), row("short.wav", 4), row("rate.wav", rate=8_000)]
    diagnosis = examine(manifest(tmp_path / "m.csv", *rows, row("gone.wav")))
    assert found(diagnosis) == {
        "long.wav": ("longer than listed", "warning"),
        "short.wav": ("shorter than listed", "error"),
        "rate.wav": ("rate differs from the listed one", "warning"),
        "gone.wav": ("missing", "error"),
    }
    assert diagnosis.problems[0].detail == "3.00 s, not 2.50 s"


def test_utterances_of_one_file_are_checked_separately(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "BLOCK", 10_000)  # so that they go over the ends of blocks
    parts = [speech(1), np.zeros(48_000), speech(2), speech(1), np.clip(2 * speech(3), -0.5, 0.5)]
    save(tmp_path / "shard.flac", to_pcm(np.concatenate(parts)))
    save(tmp_path / "alone.wav", to_pcm(parts[2]))
    rows = [row("shard.flac", 3, id=f"u{i}", start=3.0 * i) for i in range(5)]
    rows += [row("shard.flac", 3, id="past", start=13.0), row("shard.flac", 1.5, id="brief", start=6.5)]
    diagnosis = examine(manifest(tmp_path / "m.csv", *rows, row("alone.wav")))
    assert found(diagnosis) == {
        "u1": ("silent", "error"),
        "u3": ("duplicate audio", "warning"),
        "u4": ("clipped", "warning"),
        "past": ("shorter than listed", "error"),
        "brief": ("shorter than 2 s", "error"),
        "alone.wav": ("duplicate audio", "warning"),
    }
    assert (diagnosis.utterances, diagnosis.files) == (8, 2)


def test_unused_rest_of_a_file_is_fine_if_rows_are_parts(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        save(tmp_path / f"{name}.wav", speech(seed, seconds=6))
    rows = [row("a.wav", 2.5, id="a0"), row("a.wav", 2.5, id="a1", start=2.5), row("b.wav", 2.5)]
    assert found(examine(manifest(tmp_path / "m.csv", *rows))) == {}


def test_in_a_broken_file_only_parts_after_the_break_are_bad(tmp_path: Path) -> None:
    path = save(tmp_path / "shard.wav", np.concatenate([speech(seed) for seed in range(4)]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    rows = [row("shard.wav", 3, id=f"u{i}", start=3.0 * i) for i in range(4)]
    expected = {f"u{i}": ("truncated", "error") for i in (2, 3)}
    assert found(examine(manifest(tmp_path / "m.csv", *rows))) == expected


def test_one_bad_file_never_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    save(tmp_path / "raises.wav", speech(1))
    save(tmp_path / "vanishes.wav", speech(2))
    save(tmp_path / "good.wav", speech(3))
    names = [
        "pipe.wav",
        "folder.wav",
        "raises.wav",
        "vanishes.wav",
        "a\0b.wav",
        "x" * 300 + ".wav",
        "good.wav",
    ]
    plain = scan.open_audio

    def open_audio(path: Path) -> Any:
        if path.name == "raises.wav":
            raise ZeroDivisionError("in a decoder")
        if path.name == "vanishes.wav":
            path.unlink()
        return plain(path)

    monkeypatch.setattr(scan, "open_audio", open_audio)
    diagnosis = examine(manifest(tmp_path / "m.csv", *[row(name) for name in names]))
    assert found(diagnosis) == {
        "pipe.wav": ("cannot be read", "error"),
        "folder.wav": ("cannot be read", "error"),
        "raises.wav": ("cannot be read", "error"),
        "vanishes.wav": ("missing", "error"),
        "a\0b.wav": ("missing", "error"),
        "x" * 300 + ".wav": ("missing", "error"),
    }
    details = {p.id: p.detail for p in diagnosis.problems}
    assert "ZeroDivisionError: in a decoder" in details["raises.wav"] and "pipe" in details["pipe.wav"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_are_reported(tmp_path: Path) -> None:
    save(tmp_path / "in" / "good.wav", speech(1))
    save(tmp_path / "in" / "mine.wav", speech(2)).chmod(0)
    save(tmp_path / "in" / "closed" / "a.wav", speech(3)).parent.chmod(0)
    try:
        reasons = found(examine(tmp_path / "in"))
    finally:
        (tmp_path / "in" / "closed").chmod(0o700)
    assert reasons == {
        "mine.wav": ("cannot be read", "error"),
        "closed": ("folder cannot be opened", "error"),
    }


def break_off(monkeypatch: pytest.MonkeyPatch, after: int) -> list[str]:
    """Raise KeyboardInterrupt after so many files; return the list of decoded files."""
    decoded: list[str] = []
    plain, lock = listening.examine, threading.Lock()

    def examine(path: Path, *rest: Any) -> scan.Facts:
        with lock:
            decoded.append(path.name)
            if len(decoded) > after:
                raise KeyboardInterrupt
        return plain(path, *rest)

    monkeypatch.setattr(listening, "examine", examine)
    return decoded


def ward(folder: Path) -> Path:
    """A manifest with all kinds of rows, two of them in one file."""
    for seed in range(8):
        save(folder / f"{seed}.wav", speech(seed % 6, peak=0 if seed == 2 else 0.5))
    save(folder / "clipped.wav", np.clip(3 * speech(9), -0.5, 0.5))
    rows = [row(f"{seed}.wav", 3, f"s{seed % 5}", rate=RATE + (seed == 4)) for seed in range(8)]
    rows += [row("clipped.wav", 1.5, id="half"), row("clipped.wav", 1.2, id="end", start=1.7)]
    return manifest(folder / "m.csv", *rows)


def test_an_interrupted_run_resumes_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = ward(tmp_path), tmp_path / "p.csv"
    straight = examine(source, out=tmp_path / "straight.csv", workers=3)
    assert len(straight.problems) == 6
    with monkeypatch.context() as patch:
        break_off(patch, after=5)
        with pytest.raises(KeyboardInterrupt, match=r"stopped after \d+ of 9 files; run the same command"):
            examine(source, out=out, workers=1)
    assert not out.exists()
    (journal,) = tmp_path.glob("p.csv.*")
    with journal.open("a") as file:
        file.write('["/half/a/li')  # as a killed run leaves it
    decoded = break_off(monkeypatch, after=99)
    gone_on = examine(source, out=out, workers=1)
    assert 0 < len(decoded) < 9
    assert out.read_bytes() == (tmp_path / "straight.csv").read_bytes()
    assert gone_on.problems == straight.problems and gone_on.hours == pytest.approx(straight.hours)
    assert not journal.exists()


def test_new_parts_of_a_file_are_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.wav", np.r_[np.zeros(48_000), speech(1)])
    save(tmp_path / "b.wav", speech(2))
    first, later = row("a.wav", 3, id="part", start=0.001), row("a.wav", 3, id="part", start=3.0)
    with monkeypatch.context() as patch:
        break_off(patch, after=1)
        with pytest.raises(KeyboardInterrupt):
            examine(manifest(tmp_path / "m.csv", first, row("b.wav")), workers=1)
    assert list(tmp_path.glob("m.doctor.csv.*"))
    assert found(examine(manifest(tmp_path / "m.csv", later, row("b.wav")), workers=1)) == {}


CORPORA = corpora()


def rows_of(names: Sequence[str]) -> list[Utterance]:
    return [row(name) for name in names]


def test_the_official_counts_add_up() -> None:
    for corpus in ("voxceleb1", "voxceleb2"):
        for what, total in CORPORA[corpus].counts.items():
            assert sum(CORPORA[f"{corpus}-{part}"].counts[what] for part in ("dev", "test")) == total
    *parts, total = CORPORA["musan"].counts.values()
    assert sum(parts) == total
    for kind in ("noise", "music", "speech"):
        assert CORPORA[f"musan-{kind}"].counts["files"] == CORPORA["musan"].counts[kind]


@pytest.mark.parametrize(
    ("corpus", "names", "counts"),
    [
        (
            "voxceleb1",
            [
                "wav/id10001/1zcIwhmdeo4/00001.wav",
                "id10001/7gWzIy6yIIk/00002.wav",
                "id10270-5r0dWxy17C8-00003",
            ],
            {"speakers": 2, "recordings": 3, "utterances": 3},
        ),
        ("voxceleb1-dev", ["id10269/1zcIwhmdeo4/00001.wav", "id10310/1zcIwhmdeo4/00001.wav"], [2, 2, 2]),
        ("voxceleb1-test", ["id10270/1zcIwhmdeo4/00001.wav", "id10309/1zcIwhmdeo4/00001.wav"], [2, 2, 2]),
        ("voxceleb1-dev", ["id10270/1zcIwhmdeo4/00001.wav", "id10001/1zcIwhmdeo4/00001.wav"], [1, 1, 1]),
        (
            "voxceleb2",
            ["dev/aac/id00012/2DLq_Kkc1r8/00016.m4a", "x/id10012/2DLq_Kkc1r8/00016.m4a"],
            [1, 1, 1],
        ),
        (
            "musan",
            ["noise/free-sound/noise-free-sound-0000.wav", "music/fma/music-fma-western-art-0001.wav"],
            [1, 1, 0, 2],
        ),
        (
            "rirs",
            ["simulated_rirs/smallroom/Room001/Room001-00001.wav", "pointsource_noises/a.wav"],
            [1],
        ),
        (
            "voices-dev",
            ["Lab41-SRI-VOiCES-rm1-babb-sp0032-ch1.wav", "VOiCES-rm2-none-sp0032-ch2.wav"],
            [1, 2],
        ),
    ],
)
def test_official_counts_follow_the_corpus_names(corpus: str, names: list[str], counts: Any) -> None:
    there = count(CORPORA[corpus], rows_of(names))
    assert (there if isinstance(counts, dict) else list(there.values())) == counts


def test_pieces_and_copies_count_once() -> None:
    noise = "noise/free-sound/noise-free-sound-0000.wav"
    pieces = [row(noise, id=f"{noise}#{n:04}", start=5.0 * n) for n in range(1000)]
    assert count(CORPORA["musan-noise"], pieces) == {"files": 1}
    assert recognise(pieces) is CORPORA["musan-noise"]
    copies = rows_of([f"id10001/1zcIwhmdeo4/00001.{suffix}" for suffix in ("wav", "m4a")])
    assert count(CORPORA["voxceleb1"], copies)["utterances"] == 1


def test_official_counts_follow_labels_if_no_name_matches() -> None:
    rows = [row("1.wav", 3, "ann", recording="x"), row("2.wav", 3, "bo", recording="x"), row("3.wav")]
    assert list(count(CORPORA["voxceleb1-dev"], rows).values()) == [2, 2, 3]


@pytest.mark.parametrize(
    ("names", "corpus"),
    [
        (["id10001/1zcIwhmdeo4/00001.wav", "id10002/1zcIwhmdeo4/00001.wav"], "voxceleb1-dev"),
        (["id10270/1zcIwhmdeo4/00001.wav"], "voxceleb1-test"),
        (["id10270/1zcIwhmdeo4/00001.wav", "id10001/1zcIwhmdeo4/00001.wav"], "voxceleb1"),
        (["id00012/1zcIwhmdeo4/00001.m4a"] * 9 + ["other.wav"], "voxceleb2-test"),
        (["id00012/1zcIwhmdeo4/00001.m4a"] * 8 + ["other.wav"], None),
        (["noise/free-sound/noise-free-sound-0000.wav"], "musan-noise"),
        (["noise/free-sound/noise-free-sound-0000.wav", "music/fma/music-fma-0000.wav"], "musan"),
        (["VOiCES-rm1-none-sp0032-ch127535-sg0012-mc01.wav"], "voices-dev"),
        (["smallroom/Room001/Room001-00001.wav"], "rirs"),
        (["calls/2021-id10001/00001.wav"], None),
    ],
)
def test_a_corpus_is_known_by_its_names(names: list[str], corpus: str | None) -> None:
    known = recognise(rows_of(names))
    assert (known.name if known else None) == corpus


def test_missing_utterances_are_shown_and_fail_only_on_request(tmp_path: Path) -> None:
    save(tmp_path / "in" / "id10270" / "5r0dWxy17C8" / "00001.wav", speech(1))
    save(tmp_path / "in" / "id10271" / "1gtz-CUIygI" / "00001.wav", speech(1))
    (tmp_path / "in" / "id10271" / "1gtz-CUIygI" / "00002.wav").write_bytes(b"")
    recognised, asked = examine(tmp_path / "in"), examine(tmp_path / "in", corpus="voxceleb1-test")
    assert recognised.corpus is asked.corpus is CORPORA["voxceleb1-test"]
    assert recognised.counts == {"speakers": 2, "recordings": 2, "utterances": 2}
    details = [p.detail for p in asked.problems if not p.path]
    assert details[0] == "voxceleb1-test has 40 speakers, found 2" and len(details) == 3
    assert [p.serious for p in asked.problems] == [True] * 5
    assert [p.serious for p in recognised.problems] == [True, True, False, False, False]
    same = next(p for p in asked.problems if p.reason == "same audio under two speakers")
    assert same.detail.startswith("speaker id10271, but id10270")  # a folder has no labels: the names tell


def test_noises_may_be_short_and_dull(tmp_path: Path) -> None:
    low = soxr.resample(soxr.resample(speech(1, seconds=0.5), RATE, 8_000), 8_000, RATE)
    save(tmp_path / "noise-free-sound-0000.wav", low)
    diagnosis = examine(tmp_path)
    assert {problem.reason for problem in diagnosis.problems} == {"count differs from the official one"}
    assert "shorter than 1 s" in {p.reason for p in examine(tmp_path, min_seconds=1).problems}


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    source = ward(tmp_path / "in")
    with pytest.raises(IdemvoxError, match="unknown corpus 'voxceleb'; did you mean 'voxceleb"):
        examine(source, corpus="voxceleb")
    with pytest.raises(IdemvoxError, match="is the manifest itself"):
        examine(source, out=source)
    with pytest.raises(IdemvoxError, match="is a folder; give the file"):
        examine(source, out=tmp_path)
    with pytest.raises(IdemvoxError, match="no manifest or folder"):
        examine(tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(IdemvoxError, match=r"no audio in .*looked for \.wav"):
        examine(tmp_path / "empty")
    with pytest.raises(IdemvoxError, match="has no rows"):
        examine(manifest(tmp_path / "m.csv"))


def test_the_exit_status_follows_the_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def status(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["doctor", "-q", *words], env={"COLUMNS": "160"})
        return result.exit_code, result.output

    good, odd, bad = tmp_path / "good", tmp_path / "odd", tmp_path / "bad"
    save(good / "a.wav", speech(1))
    save(odd / "a.wav", np.clip(2 * speech(2), -0.5, 0.5))
    save(bad / "a.wav", speech(3, peak=0))
    assert status(str(good), "--strict")[0] == 0
    assert status(str(odd))[0] == 0 and status(str(odd), "--strict")[0] == 1
    code, shown = status(str(bad), "--out", str(tmp_path / "p.csv"))
    assert code == 1 and "silent" in shown and "p.csv" in shown
    assert status(str(good), "--min-seconds", "4")[0] == 1
    code, shown = status(str(good), "--corpus", "musan")
    assert code == 1 and "2,016" in shown
    break_off(monkeypatch, after=0)
    code, shown = status(str(good))
    assert code == 130 and "stopped after 0 of 1 files; run the same command again to resume" in shown


def test_the_help_lists_all_corpora_and_parts() -> None:
    shown = CliRunner().invoke(app, ["doctor", "--help"], env={"COLUMNS": "160"}).output
    assert all(name in shown for name in CORPORA) and "--strict" in shown


def test_real_speech_is_good_and_upsampled_calls_are_reported(tmp_path: Path) -> None:
    root = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[3] / "../shared/corpora"))
    if not (root / "manifest.csv").exists():
        pytest.skip("no real speech: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    paths: dict[str, list[Path]] = {}
    with (root / "manifest.csv").open(newline="") as file:
        for r in csv.DictReader(file):
            if float(r["seconds"]) > 2:
                paths.setdefault(r["source"], []).append(root / r["path"])
    for source, files in paths.items():
        for path in files[:: len(files) // 4]:
            sound = listen(path).sounds[0]
            assert sound.clipped < CLIPPED and not sound.above < TELEPHONE, (source, path, sound)
    for path in paths["wuw2"][:4]:
        assert heard(read(path), tmp_path).above < TELEPHONE, path
