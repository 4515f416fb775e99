"""Fetching voices from packages (simulated, without a network), joining clips, and synthetic voices."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import idemvox.studies.debian as voices
from idemvox.audio.channel import active_rms
from idemvox.audio.read import probe, read, write_wav
from idemvox.corpus.simulated.voices import draw_voice, speak, synthetic_voices
from idemvox.errors import IdemvoxError
from idemvox.studies.debian import VOICES, Voice, fetch_voices, join_clips, trim

RATE = 16_000


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


class Debian:
    """Stands in for apt-get and dpkg-deb: a package is a folder with usr/share in it."""

    def __init__(self, packages: Path, lists: bool = True, network: bool = True) -> None:
        self.packages, self.lists, self.network = packages, lists, network
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], folder: Path) -> str:
        self.commands.append(command)
        if command[0] == "dpkg-deb":
            assert command[1] == "-x"
            shutil.copytree(Path(command[2]).read_text(), command[3])
            return ""
        if command[-1] == "update":
            if not self.network:
                return ""  # apt-get succeeds although it fetched nothing
            place = next(word for word in command if word.startswith("Dir::State::Lists="))
            (Path(place.partition("=")[2]) / "x_Packages.lz4").touch()
            return "E: Problem executing scripts"  # a hook that wants root
        assert command[-2] == "download"
        private = any(word.startswith("Dir::State::Lists=") for word in command)
        if not (self.lists or private) or not self.network or not (self.packages / command[-1]).is_dir():
            return f"E: Unable to locate package {command[-1]}"
        (folder / f"{command[-1]}_1_all.deb").write_text(str(self.packages / command[-1]))
        return ""

    def downloads(self) -> list[str]:
        return [command[-1] for command in self.commands if "download" in command]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three voices: ann has plenty in two packages, bob enough, cat too little."""
    table = (
        Voice("ann", "en-wav", "sounds/ann/"),
        Voice("ann", "es-wav", "sounds/anna/"),
        Voice("bob", "letters", "letters/bob/(?!other)"),
        Voice("cat", "letters", "letters/cat/"),
    )
    monkeypatch.setattr(voices, "VOICES", table)
    monkeypatch.setattr(voices, "LEAST", 3)
    monkeypatch.setattr(voices, "MOST", 5)
    monkeypatch.setattr(voices.shutil, "which", lambda name: f"/usr/bin/{name}")
    home = tmp_path / "packages"
    clips = {
        "en-wav/usr/share/sounds/ann": 30,
        "en-wav/usr/share/sounds/ann/silence": 3,
        "es-wav/usr/share/sounds/anna": 14,
        "letters/usr/share/letters/bob": 12,
        "letters/usr/share/letters/cat": 4,
    }
    for folder, count in clips.items():
        for index in range(count):
            write_wav(home / folder / f"{index}.wav", babble(1.2, index))
    (home / "letters/usr/share/letters/bob/broken.wav").write_bytes(b"RIFF?")
    write_wav(home / "letters/usr/share/letters/bob/silent.wav", np.zeros(RATE))
    write_wav(home / "letters/usr/share/letters/bob/other.wav", babble(1.0))
    for package in ("en-wav", "es-wav", "letters"):
        doc = home / package / "usr/share/doc" / package / "copyright"
        doc.parent.mkdir(parents=True)
        doc.write_text(f"License of {package}: free")
    return home


def test_voices_from_packages(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian = Debian(packages)
    monkeypatch.setattr(voices, "_run", debian)
    cache = tmp_path / "cache"
    fetched = fetch_voices(cache, progress=False)
    assert fetched.notes == ()
    manifest = fetched.manifest
    assert manifest is not None
    assert Counter(u.speaker for u in manifest) == {"ann": 5, "bob": 4}  # 5 = the most; cat has too little
    for utterance in manifest:
        assert 3 <= utterance.seconds <= 6
        assert utterance.recording is None
        info = probe(manifest.path(utterance))
        assert (info.rate, info.channels) == (RATE, 1)
        assert active_rms(read(manifest.path(utterance))) == pytest.approx(voices.LEVEL, rel=0.05)
    licences = (cache / "LICENCES.txt").read_text()
    assert all(f"License of {package}: free" in licences for package in ("en-wav", "es-wav", "letters"))
    assert sorted(path.name for path in cache.iterdir()) == ["LICENCES.txt", "voices"]

    count = len(debian.commands)
    assert list(fetch_voices(cache, progress=False).manifest or []) == list(manifest)
    assert len(debian.commands) == count  # nothing is fetched twice


def test_resumes_after_a_kill(packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian = Debian(packages)
    monkeypatch.setattr(voices, "_run", debian)
    with monkeypatch.context() as patch:
        patch.setattr(voices, "write_wav", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch_voices(tmp_path / "cache", progress=False)
    fetched = fetch_voices(tmp_path / "cache", progress=False)
    assert fetched.manifest is not None
    assert sorted(debian.downloads()) == ["en-wav", "es-wav", "letters"]  # each once


def test_private_package_lists_if_the_system_has_none(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = Debian(packages, lists=False)
    monkeypatch.setattr(voices, "_run", debian)
    fetched = fetch_voices(tmp_path / "cache", progress=False)
    assert fetched.manifest is not None
    assert fetched.notes == ()
    updates = [command for command in debian.commands if command[-1] == "update"]
    assert len(updates) == 1
    for command in debian.commands:
        for word in command:
            if word.startswith("Dir::"):
                assert str(tmp_path / "cache") in word  # the system's own folders are left alone


def test_a_missing_package_is_skipped(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(packages / "en-wav")
    monkeypatch.setattr(voices, "_run", Debian(packages))
    fetched = fetch_voices(tmp_path / "cache", progress=False)
    assert fetched.manifest is not None
    assert fetched.notes == ("no en-wav: E: Unable to locate package en-wav",)
    assert set(fetched.manifest.speakers) == {"ann", "bob"}  # some of ann's is in the other package
    assert fetch_voices(tmp_path / "cache", progress=False).notes == fetched.notes


def test_a_missing_network_is_reported(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian = Debian(packages, lists=False, network=False)
    monkeypatch.setattr(voices, "_run", debian)
    fetched = fetch_voices(tmp_path / "cache", progress=False)
    assert fetched.manifest is None
    assert "network" in fetched.notes[0]
    assert len(debian.commands) == 2  # it does not try them all

    debian.network = True
    assert fetch_voices(tmp_path / "cache", progress=False).manifest is not None


def test_other_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices.shutil, "which", lambda name: None)
    fetched = fetch_voices(tmp_path / "cache", progress=False)
    assert fetched.manifest is None
    assert "apt-get" in fetched.notes[0]


def test_reason_of_a_failed_command(tmp_path: Path) -> None:
    assert voices._run(["sh", "-c", "echo W: hm >&2; echo E: broken >&2; exit 100"], tmp_path) == "E: broken"
    assert voices._run(["sh", "-c", "exit 3"], tmp_path) == "sh ended with status 3"
    assert "no-such-command" in voices._run(["no-such-command"], tmp_path)
    assert voices._run(["true"], tmp_path) == ""


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="not Debian")
def test_real_deb_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: d\n"
    (tree / "DEBIAN" / "control").write_text(control)
    write_wav(tree / "usr/share/p/a.wav", babble(0.5))
    subprocess.run(["dpkg-deb", "-b", str(tree), str(tmp_path / "p.deb")], check=True, capture_output=True)
    genuine = voices._run

    def run(command: list[str], folder: Path) -> str:
        if command[0] != "apt-get":
            return genuine(command, folder)
        shutil.copy(tmp_path / "p.deb", folder / "p_1_all.deb")
        return ""

    monkeypatch.setattr(voices, "_run", run)
    assert voices._fetch_package(tmp_path / "cache", "p", ()) == ""
    assert (tmp_path / "cache/unpacked/p/usr/share/p/a.wav").exists()
    assert [path.name for path in (tmp_path / "cache/unpacked").iterdir()] == ["p"]


def test_no_clip_is_used_twice() -> None:
    names = ["tux-arrow.ogg", "xmas_star.ogg", "tv_car.ogg", "egypt_man.ogg", "nose.ogg"]
    places = ["klettres/de/alpha", "klettres/de/syllab", "klettres/en/alpha", "klettres/en_GB/alpha"]
    places += [f"ktuberling/sounds/{code}" for code in ("ca", "da", "lt", "ru", "fr", "en")]
    for path in [f"{place}/{name}" for place in places for name in names]:
        owners = [voice.name for voice in VOICES if re.match(voice.pattern, path)]
        assert len(owners) <= 1
        assert bool(owners) or "/en/" not in path or "ktuberling" in path
    assert len({voice.name for voice in VOICES}) >= 30


@settings(max_examples=30)
@given(
    lengths=st.lists(st.floats(0.2, 15.0), max_size=30), seed=st.integers(0, 99), usual=st.floats(3.0, 4.5)
)
def test_clips_are_joined(lengths: list[float], seed: int, usual: float) -> None:
    """Each has 3-6 s, in order, and only a tail of less than 4.5 s is lost."""
    clips = [
        np.full(round(length * RATE), index + 1, dtype=np.float32) for index, length in enumerate(lengths)
    ]
    joined = list(join_clips(clips, np.random.default_rng(seed), usual))
    assert all(3 * RATE - 1 <= len(wave) <= 6 * RATE for wave in joined)
    kept = np.concatenate([*joined, np.zeros(0)])
    spoken = kept[kept > 0]
    assert np.array_equal(spoken, np.concatenate([*clips, np.zeros(0)])[: len(spoken)])
    assert sum(map(len, clips)) - len(spoken) <= 4.5 * RATE


def test_silence_is_trimmed() -> None:
    speech = babble(0.5)
    silence = np.zeros(RATE // 2, dtype=np.float32)
    trimmed = trim(np.concatenate([silence, speech, silence]))
    assert 0.5 * RATE <= len(trimmed) <= 0.58 * RATE
    noise = 0.01 * babble(2.0, 1)
    noise[RATE // 2 : RATE] += speech
    assert 0.5 * RATE <= len(trim(noise)) <= 0.65 * RATE
    hiss = 0.1 * babble(2.0, 1)  # 20 dB below the speech
    hiss[RATE // 2 : RATE] += speech
    assert 0.5 * RATE <= len(trim(hiss)) <= 0.65 * RATE
    assert not len(trim(silence))
    assert not len(trim(silence[:5]))


def fundamental(wave: np.ndarray) -> float:
    """Median fundamental frequency of the voiced 40-ms frames, by autocorrelation."""
    found = []
    for start in range(0, len(wave) - 640, 320):
        frame = wave[start : start + 640] - np.mean(wave[start : start + 640])
        auto = np.correlate(frame, frame, "full")[639:] / (640 - np.arange(640))
        lag = 40 + int(np.argmax(auto[40:228] >= 0.9 * np.max(auto[40:228])))
        while lag < 227 and auto[lag + 1] > auto[lag]:
            lag += 1
        if auto[lag] > 0.6 * auto[0] > 1e-6:
            found.append(RATE / lag)
    return float(np.median(found))


def test_pitch_differs_between_synthetic_voices_more_than_within() -> None:
    pitch = np.empty((6, 3))
    for number in range(6):
        voice = draw_voice(np.random.default_rng(number))
        for index in range(3):
            wave = speak(voice, np.random.default_rng([number, index]), 2.0)
            assert len(wave) == 2 * RATE
            assert 0.1 < np.max(np.abs(wave)) < 1
            assert active_rms(wave) == pytest.approx(0.05, rel=0.1)
            pitch[number, index] = fundamental(wave)
            assert pitch[number, index] == pytest.approx(voice.pitch, rel=0.2)
    assert pitch.mean(axis=1).var() > 20 * pitch.var(axis=1).mean()


def test_vocal_tract_moves_the_spectrum() -> None:
    """The same babble through formants 30 % higher: a clearly higher spectral centroid, the same pitch."""
    centroids, pitches = [], []
    for scale in (0.85, 1.1):
        voice = replace(draw_voice(np.random.default_rng(2)), scale=scale)
        wave = speak(voice, np.random.default_rng(0), 2.0)
        power = np.abs(np.fft.rfft(wave)) ** 2
        centroids.append(np.sum(np.linspace(0, 8000, len(power)) * power) / power.sum())
        pitches.append(fundamental(wave))
    assert 1.1 < centroids[1] / centroids[0] < 1.6
    assert pitches[1] == pytest.approx(pitches[0], rel=0.05)


def test_synthetic_corpus(tmp_path: Path) -> None:
    manifest = synthetic_voices(tmp_path / "a", 2, 2, seed=1, workers=1)
    assert [u.id for u in manifest] == [
        "synthetic-00/000",
        "synthetic-00/001",
        "synthetic-01/000",
        "synthetic-01/001",
    ]
    assert manifest.speakers == ["synthetic-00", "synthetic-01"]
    assert all(3 <= u.seconds <= 5 for u in manifest)
    stamp = manifest.path(manifest[0]).stat().st_mtime_ns
    manifest.path(manifest[1]).unlink()
    again = synthetic_voices(tmp_path / "a", 2, 2, seed=1, workers=1)
    assert list(again) == list(manifest)
    assert manifest.path(manifest[0]).stat().st_mtime_ns == stamp
    other = synthetic_voices(tmp_path / "b", 2, 2, seed=1, workers=2)
    assert [other.path(u).read_bytes() for u in other] == [manifest.path(u).read_bytes() for u in manifest]
    with pytest.raises(IdemvoxError, match="another seed"):
        synthetic_voices(tmp_path / "a", 2, 2, seed=2, workers=1)
    with pytest.raises(IdemvoxError, match="1 or more"):
        synthetic_voices(tmp_path / "c", 0, 2, seed=2)
