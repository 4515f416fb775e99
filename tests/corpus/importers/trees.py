"""Small trees of each corpus's layout, with real audio in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from idemvox.corpus.importers.kaldi import prepare_kaldi
from idemvox.corpus.importers.musan import prepare_musan
from idemvox.corpus.importers.rirs import prepare_rirs
from idemvox.corpus.importers.sitw import prepare_sitw
from idemvox.corpus.importers.voices import prepare_voices
from idemvox.corpus.importers.voxceleb import prepare_voxceleb1, prepare_voxceleb2


def tone(path: Path, seconds: float = 2.5, rate: int = 16000, channels: int = 1) -> Path:
    """Write a tone with a little noise, in the format that the suffix names (M4A through PyAV)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(len(path.name)).standard_normal((len(time), channels))
    wave = 0.3 * np.sin(2 * np.pi * 300 * time)[:, None] + 0.03 * noise
    if path.suffix != ".m4a":
        soundfile.write(path, wave, rate)
        return path
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave.T.astype(np.float32).copy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)
    return path


def voxceleb1(root: Path) -> None:
    for part, speaker in (("vox1_dev_wav", "id10001"), ("vox1_test_wav", "id10270")):
        for video in ("1zcIwhmdeo4", "7gWzIy6yIIk"):
            for number in (1, 2):
                tone(root / part / "wav" / speaker / video / f"{number:05}.wav")


def voxceleb2(root: Path) -> None:
    for part, speaker in (("dev", "id00012"), ("test", "id00017")):
        for number in (1, 2, 3):
            tone(root / part / "aac" / speaker / "21Uxsk56VDQ" / f"{number:05}.m4a")


def voices_name(speaker: str, room: str = "rm1", noise: str = "none", mic: str = "mc01") -> str:
    return f"Lab41-SRI-VOiCES-{room}-{noise}-{speaker}-ch127535-sg0012-{mic}-stu-clo-dg080"


def voices(root: Path) -> None:
    """Two speakers, enrolled in one room, tested in another: 2 x 4 trials."""
    home = root / "Development_Data" / "Speaker_Recognition"
    lists = home / "sid_dev_lists_and_keys"
    lists.mkdir(parents=True)
    enrol, tests = [], []
    for speaker in ("sp0032", "sp3446"):
        model = voices_name(speaker)
        enrol.append((model, f"sid_dev/{speaker}/{model}.wav", speaker))
        for mic in ("mc05", "mc12"):
            tests.append((f"sid_dev/{speaker}/{voices_name(speaker, 'rm2', 'musi', mic)}.wav", speaker))
    for name in [name for _, name, _ in enrol] + [name for name, _ in tests]:
        tone(home / name)
    (lists / "dev-enroll.lst").write_text("".join(f"{model} {name}\n" for model, name, _ in enrol))
    (lists / "dev-test.lst").write_text("".join(f"{name}\n" for name, _ in tests))
    keys = [f"{m} {n} {'tgt' if s == t else 'imp'}\n" for m, _, s in enrol for n, t in tests]
    (lists / "dev-trial-keys.lst").write_text("".join(keys))


def sitw(root: Path) -> None:
    for part in ("dev", "eval"):
        for name in ("aaaaa", "bbbbb", "ccccc", "ddddd"):
            tone(root / part / "audio" / f"{name}.flac")
        (root / part / "lists").mkdir()
        (root / part / "keys").mkdir()
        (root / part / "lists" / "enroll-core.lst").write_text(
            "12013 audio/aaaaa.flac\n45205 audio/bbbbb.flac\n"
        )
        (root / part / "lists" / "test-core.lst").write_text("audio/bbbbb.flac\naudio/ccccc.flac\n")
        (root / part / "keys" / "core-core.lst").write_text(
            "12013 audio/bbbbb.flac imp\n12013 audio/ccccc.flac tgt\n45205 audio/ccccc.flac imp\n"
        )
    (root / "eval" / "keys" / "core-multi.lst").write_text("12013 audio/ddddd.flac tgt\n")
    rows = [("aaaaa", "ZPYJ", 1), ("bbbbb", "PNTR", 2), ("ccccc", "ZPYJ", 3), ("ddddd", "ZPYJ", 3)]
    meta = "".join(
        f"audio/{n}.flac {s} m video {v} 96 120 1 codec 3 interview laughter\n" for n, s, v in rows
    )
    (root / "dev" / "keys" / "meta.lst").write_text(meta)


def musan(root: Path) -> None:
    tone(root / "musan" / "noise" / "free-sound" / "noise-free-sound-0000.wav", seconds=11.5)
    tone(root / "musan" / "noise" / "sound-bible" / "noise-sound-bible-0000.wav", seconds=10.5)
    tone(root / "musan" / "music" / "fma" / "music-fma-0000.wav", seconds=5)
    tone(root / "musan" / "speech" / "librivox" / "speech-librivox-0000.wav", seconds=3)
    (root / "musan" / "noise" / "free-sound" / "LICENSE").write_text("")


def rirs(root: Path) -> None:
    home = root / "RIRS_NOISES"
    for size, number in (("smallroom", 1), ("smallroom", 2), ("mediumroom", 1), ("largeroom", 200)):
        room = f"Room{number:03}"
        for index in (1, 2):
            tone(home / "simulated_rirs" / size / room / f"{room}-{index:05}.wav", seconds=0.3)
    (home / "simulated_rirs" / "smallroom" / "rir_list").write_text("")
    real = home / "real_rirs_isotropic_noises"
    response = tone(real / "air_type1_air_binaural_office_0_1.wav", seconds=0.3, channels=2)
    tone(real / "air_type1_noise_office_0.wav", seconds=1)
    (real / "rir_list").write_text(
        f"--rir-id 00001 --room-id air_office RIRS_NOISES/{real.name}/{response.name}\n"
    )


def kaldi(root: Path) -> None:
    for call in ("call1", "call2"):
        tone(root / "audio" / f"{call}.wav", seconds=8)
    (root / "wav.scp").write_text(f"call1 {root}/audio/call1.wav\ncall2 {root}/audio/call2.wav\n")
    (root / "segments").write_text("a-1 call1 0.5 3.0\na-2 call1 3.0 8.2\nb-1 call2 0 -1\n")
    (root / "utt2spk").write_text("a-1 a\na-2 a\nb-1 b\n")


@dataclass(frozen=True, slots=True)
class Corpus:
    """How to build and prepare a corpus, a file to break, and the layout that its importer reports."""

    build: Callable[[Path], None]
    prepare: Callable[..., Any]
    rows: int
    one: str  # a file of it that other files do not need
    looked_for: str


CORPORA = {
    "voxceleb1": Corpus(
        voxceleb1, prepare_voxceleb1, 8, "vox1_test_wav/wav/id10270/1zcIwhmdeo4/00001.wav", "id10001/VIDEO"
    ),
    "voxceleb2": Corpus(
        voxceleb2, prepare_voxceleb2, 6, "dev/aac/id00012/21Uxsk56VDQ/00002.m4a", "id00012/VIDEO"
    ),
    "voices": Corpus(
        voices,
        prepare_voices,
        6,
        f"Development_Data/Speaker_Recognition/sid_dev/sp0032/{voices_name('sp0032')}.wav",
        "dev-trial-keys.lst up to four levels down; found none",
    ),
    "sitw": Corpus(sitw, prepare_sitw, 8, "dev/audio/bbbbb.flac", "keys/core-core.lst"),
    "musan": Corpus(
        musan, prepare_musan, 7, "musan/noise/sound-bible/noise-sound-bible-0000.wav", "noise, music, speech"
    ),
    "rirs": Corpus(
        rirs, prepare_rirs, 8, "RIRS_NOISES/simulated_rirs/smallroom/Room001/Room001-00001.wav", "Room001"
    ),
    "kaldi": Corpus(kaldi, prepare_kaldi, 3, "audio/call2.wav", "wav.scp"),
}
