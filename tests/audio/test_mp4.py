"""M4A and its kin: the same behaviour as other formats, on files that PyAV itself writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from idemvox.audio.read import SAMPLE_RATE, open_audio, probe, read, read_pcm
from idemvox.corpus.checks.scan import examine, find_audio
from idemvox.errors import IdemvoxError

av = pytest.importorskip("av")


def write(path: Path, wave: np.ndarray, rate: int, codec: str = "aac", **options: str) -> Path:
    """Encode (T,) or (channels, T); the container is that of the suffix."""
    wave = np.atleast_2d(wave).astype(np.float32)
    layout = "mono" if len(wave) == 1 else "stereo"
    kind = {".aac": "adts"}.get(path.suffix, "mp4")
    with av.open(str(path), "w", format=kind, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)
    return path


def sweep(seconds: float, rate: int) -> np.ndarray:
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(7).standard_normal(len(t))
    return 0.3 * np.sin(2 * np.pi * (150 + 80 * t) * t) + 0.02 * noise


@pytest.mark.parametrize(
    ("name", "rate"), [("a.m4a", 16000), ("a.m4a", 44100), ("a.MP4", 8000), ("a.aac", 16000)]
)
def test_any_part_is_that_part_of_the_whole(tmp_path: Path, name: str, rate: int) -> None:
    path = write(tmp_path / name.lower(), sweep(3.6, rate), rate).rename(tmp_path / name)
    whole = read(path)
    assert whole.dtype == np.float32 and whole.ndim == 1
    slack = 0.002 if name != "a.aac" else 0.13  # ADTS says nothing of the padding at its ends
    assert len(whole) == pytest.approx(3.6 * SAMPLE_RATE, abs=slack * SAMPLE_RATE)
    assert probe(path).seconds == pytest.approx(len(whole) / SAMPLE_RATE, abs=1e-3)
    for start in (0, 1599, 23457, len(whole) - 1600):
        crop = read(path, start, 1600)
        np.testing.assert_allclose(crop, whole[start : start + 1600], atol=1e-5)
    assert len(read(path, len(whole), 5)) == 0 and len(read(path, len(whole) - 5, 99)) == 5
    np.testing.assert_allclose(read_pcm(path, 100, 50) / 32768, whole[100:150], atol=2e-5)


def test_the_tone_is_where_it_was_written_and_channels_are_averaged(tmp_path: Path) -> None:
    t = np.arange(96_000) / 48_000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t) * (t > 1)
    wave = read(write(tmp_path / "a.m4a", np.stack([tone, 0 * tone]), 48_000), 20_000, 8_000)
    time = (20_000 + np.arange(8_000)) / SAMPLE_RATE
    phase = np.angle(np.sum(wave * np.exp(-2j * np.pi * 440 * time))) + np.pi / 2
    assert abs((phase + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi * 440) < 0.25e-3
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.25 / np.sqrt(2), rel=0.03)


def test_integer_sound_comes_out_exactly(tmp_path: Path) -> None:
    """ALAC, which MP4 files may also hold, is lossless: an oracle."""
    wave = np.round(sweep(1, 16000) * 32768) / 32768
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("alac", rate=16000, layout="mono")
        pcm = (wave * 32768).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(pcm, format="s16p", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        for part in (frame, None):
            for packet in stream.encode(part):
                container.mux(packet)
    np.testing.assert_array_equal(read(tmp_path / "a.m4a"), wave.astype(np.float32))


def test_blocks_are_the_whole_in_pieces(tmp_path: Path) -> None:
    path = write(tmp_path / "a.m4a", sweep(2, 16000), 16000)
    with open_audio(path) as file:
        blocks = [file.read(5001) for _ in range(8)]
        assert file.read(10).shape == (0,) and file.channels == 1
    np.testing.assert_array_equal(np.concatenate(blocks), read(path))


def test_a_scan_tells_good_from_broken(tmp_path: Path) -> None:
    good = write(tmp_path / "a.m4a", sweep(3, 16000), 16000)
    facts = examine(good)
    assert facts.fault == "" and facts.seconds == pytest.approx(3, abs=1e-3) and 0.2 < facts.peak < 0.6
    front = write(tmp_path / "b.m4a", sweep(6, 16000), 16000, movflags="+faststart")  # its header comes first
    front.write_bytes(front.read_bytes()[: front.stat().st_size * 6 // 10])
    facts = examine(front)
    assert facts.promised == pytest.approx(96_000, abs=16) and facts.seconds < 4
    (tmp_path / "c.m4a").write_bytes(good.read_bytes()[:3000])
    assert "invalid data" in examine(tmp_path / "c.m4a").fault
    assert find_audio(tmp_path).files == ["a.m4a", "b.m4a", "c.m4a"]


def test_whatever_is_in_the_bytes_the_error_names_the_file(tmp_path: Path) -> None:
    """Spoilt headers, by a fixed seed: other errors than ours would end a whole scan."""
    whole = write(tmp_path / "a.m4a", sweep(1, 16000), 16000).read_bytes()
    rng = np.random.default_rng(1)
    failed = 0
    for _ in range(60):
        spoilt = bytearray(whole)
        for at in rng.integers(len(whole) - 900, len(whole), 20):
            spoilt[at] = rng.integers(256)
        (tmp_path / "b.m4a").write_bytes(spoilt)
        try:
            read(tmp_path / "b.m4a")
        except IdemvoxError as error:
            assert str(tmp_path / "b.m4a") in str(error)
            failed += 1
    assert failed > 10


def test_a_playlist_in_disguise_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "secret.aac", sweep(1, 16000), 16000)
    (tmp_path / "a.m4a").write_text("ffconcat version 1.0\nfile 'secret.aac'\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IdemvoxError, match=r"cannot read a\.m4a: invalid argument"):
        read("a.m4a")


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.m4a", sweep(1, 16000), 16000)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(IdemvoxError, match=r"a\.m4a: \.m4a files need PyAV: pip install 'idemvox\[m4a\]'"):
        read(path)
    assert "idemvox[m4a]" in examine(path).fault
