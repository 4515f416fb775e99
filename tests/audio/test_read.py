"""Reading: every format, any rate, any part of a file, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idemvox.audio.decoders import open_audio
from idemvox.audio.read import SAMPLE_RATE, AudioInfo, probe, read, read_pcm, to_pcm, write_wav
from idemvox.errors import IdemvoxError

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def speech_like(seconds: float, rate: int) -> np.ndarray:
    """A swept tone with a little noise: every moment differs from every other."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(7).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * (150 + 80 * t) * t) + 0.02 * noise).astype(np.float32)


def write(path: Path, wave: np.ndarray, rate: int, kind: str) -> Path:
    name, subtype = FORMATS[kind]
    soundfile.write(path, wave, rate, format=name, subtype=subtype)
    return path


# Opus knows five rates only; the others are tried at four, one of which (22.05 kHz) is hard to seek in
CASES = [(kind, rate) for kind in FORMATS for rate in (8000, 16000, 22050, 44100) if kind != "opus"]
CASES += [("opus", rate) for rate in (8000, 16000, 48000)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file per format and rate, 3.6 s each."""
    folder = tmp_path_factory.mktemp("formats")
    for kind, rate in CASES:
        write(folder / f"{rate}.{kind}", speech_like(3.6, rate), rate, kind)
    return folder


@pytest.mark.parametrize(("kind", "rate"), CASES)
def test_any_part_equals_that_part_of_the_whole(folder: Path, kind: str, rate: int) -> None:
    path = folder / f"{rate}.{kind}"
    whole = read(path)
    assert whole.dtype == np.float32 and whole.ndim == 1
    assert len(whole) == pytest.approx(3.6 * SAMPLE_RATE, abs=1)
    for start in (0, 1, 1599, 1600, 23457, 48001, len(whole) - 1600):
        crop = read(path, start, 1600)
        assert len(crop) == 1600
        np.testing.assert_allclose(crop, whole[start : start + 1600], atol=1e-5)


@pytest.mark.parametrize(("kind", "rate"), CASES)
def test_the_tone_is_where_it_was_written(tmp_path: Path, kind: str, rate: int) -> None:
    """Compared with the formula: a 440-Hz tone at any file rate, delayed by less than 0.25 ms."""
    t = np.arange(rate * 2) / rate
    path = write(tmp_path / "tone", 0.5 * np.sin(2 * np.pi * 440 * t) * (t > 1), rate, kind)
    wave = read(path, 20_000, 8_000)  # 1.25 s to 1.75 s
    time = (20_000 + np.arange(8_000)) / SAMPLE_RATE
    phase = np.angle(np.sum(wave * np.exp(-2j * np.pi * 440 * time))) + np.pi / 2
    delay = -((phase + np.pi) % (2 * np.pi) - np.pi) / (2 * np.pi * 440)
    assert abs(delay) < 0.25e-3
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    assert np.abs(read(path, 0, 12_000)).max() < 0.05


@pytest.mark.parametrize("kind", FORMATS)
def test_blocks_join_to_the_whole(folder: Path, kind: str) -> None:
    """soundfile alone fails this for MP3, because it seeks after each read and loses frames."""
    rate = 48000 if kind == "opus" else 22050
    whole, _ = soundfile.read(folder / f"{rate}.{kind}", dtype="float32")
    with open_audio(folder / f"{rate}.{kind}") as file:
        blocks = [file.read(5001, dtype="float32") for _ in range(len(whole) // 5001 + 1)]
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.integers(4000, 50_000),
    start=st.integers(0, 20_000),
    samples=st.one_of(st.none(), st.integers(0, 20_000)),
)
def test_crops_can_be_read_at_any_rate(tmp_path: Path, rate: int, start: int, samples: int | None) -> None:
    wave = np.random.default_rng(rate).uniform(-0.5, 0.5, rate).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    whole = read(tmp_path / "a.wav")
    assert abs(len(whole) - SAMPLE_RATE) <= 1
    expected = whole[start:] if samples is None else whole[start : start + samples]
    np.testing.assert_allclose(read(tmp_path / "a.wav", start, samples), expected, atol=1e-5)


def test_far_into_opus_a_part_is_close_to_the_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "long.opus", speech_like(14, 16000), 16000, "opus")
    whole = read(path)
    for start in (170_001, 200_000, 215_000):
        np.testing.assert_allclose(read(path, start, 8000), whole[start : start + 8000], atol=4e-3)


@pytest.mark.parametrize("rate", [16000, 8000])
def test_reading_past_the_end_stops_at_the_end(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", speech_like(1, rate), rate, "wav")
    assert len(read(path, 15_000, 5_000)) == 1_000
    assert len(read(path, 16_000, 5)) == len(read(path, 10**9)) == len(read(path, 0, 0)) == 0
    assert read(path, 10**9, 4).dtype == np.float32


@pytest.mark.parametrize("rate", [16000, 44100])
def test_channels_are_averaged(tmp_path: Path, rate: int) -> None:
    left, right = speech_like(1, rate), np.random.default_rng(1).uniform(-0.4, 0.4, rate)
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], 1), rate, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", (left + right) / 2, rate, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "two.wav"), read(tmp_path / "one.wav"), atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_if_channels_cancel_the_louder_one_is_read(tmp_path: Path, rate: int) -> None:
    wave = speech_like(1, rate)
    soundfile.write(tmp_path / "two.wav", np.stack([-0.95 * wave, wave], 1), rate, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", wave, rate, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "two.wav"), read(tmp_path / "one.wav"), atol=1e-6)
    crop = read(tmp_path / "two.wav", 5000, 3000)
    np.testing.assert_allclose(crop, read(tmp_path / "one.wav")[5000:8000], atol=1e-5)


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_finite_are_reported(tmp_path: Path, rate: int, number: float) -> None:
    wave = speech_like(2, rate)
    wave[round(1.25 * rate)] = number
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    for call in (read, read_pcm):
        with pytest.raises(IdemvoxError, match=r"a\.wav: it has NaN or infinite samples .*first at 1\.25 s"):
            call(tmp_path / "a.wav")
    assert np.isfinite(read(tmp_path / "a.wav", 0, 16_000)).all()


def test_a_truncated_wav_is_used_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.wav", speech_like(5, 16000), 16000, "wav")
    path.write_bytes(path.read_bytes()[: 44 + 2 * 48_000])
    assert len(read(path, 10, 1000)) == 1000 and not caplog.messages  # there, whatever may be missing
    assert len(read(path)) == len(read_pcm(path)) == 48_000
    (warning,) = caplog.messages  # once
    assert "a.wav is truncated: its header says 5.00 s" in warning
    streamed = write(tmp_path / "b.wav", speech_like(1, 16000), 16000, "wav")
    head = bytearray(streamed.read_bytes())
    head[4:8] = head[40:44] = b"\xff\xff\xff\xff"
    streamed.write_bytes(bytes(head))
    assert len(read(streamed)) == 16_000 and len(caplog.messages) == 1


def test_probe_reads_the_header(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros((11_025, 2)), 44_100)
    info = probe(tmp_path / "a.flac")
    assert info == AudioInfo(frames=11_025, rate=44_100, channels=2)
    assert info.seconds == 0.25


def test_parts_of_a_wav_are_found_by_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", speech_like(20, 8000), 8000, "wav")
    decoded: list[int] = []
    plain = soundfile.SoundFile.read

    def count(self: soundfile.SoundFile, frames: int = -1, **more: object) -> object:
        decoded.append(frames)
        return plain(self, frames, **more)

    monkeypatch.setattr(soundfile.SoundFile, "read", count)
    read(path, 200_000, 16_000)
    assert 8_000 <= sum(decoded) < 11_000


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.wav", None, "No such file"),
        ("empty.wav", b"", "not audio"),
        ("text.mp3", b"not sound at all " * 99, "not audio"),
        ("voice.wma", b"\0\0\0\x20ftypM4A ", "invalid data"),
        ("samples.raw", b"\0\1" * 99, "no header"),
    ],
)
def test_unreadable_files_are_reported(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for call in (read, probe):
        with pytest.raises(IdemvoxError, match=reason) as caught:
            call(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("suffix", ["wav", "flac", "opus", "mkv"])
def test_an_empty_file_is_reported_as_empty(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(IdemvoxError, match=f"cannot read .*a.{suffix}: not audio, the file is empty"):
        read(path)
    assert capfd.readouterr() == ("", "")  # FFmpeg's bindings would print a traceback


def test_a_broken_flac_is_reported_when_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", speech_like(5, 16000), 16000, "flac")
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(IdemvoxError, match=r"a\.flac"):
        read(path)


def test_a_negative_start_is_a_programming_error(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(10))
    with pytest.raises(ValueError, match="-1"):
        read(tmp_path / "a.wav", -1)


@given(st.lists(st.floats(-2, 2, width=32), max_size=50))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_write_wav_rounds_and_clips(tmp_path: Path, values: list[float]) -> None:
    wave = np.array(values, dtype=np.float32)
    write_wav(tmp_path / "new" / "a.wav", wave)
    back = read(tmp_path / "new" / "a.wav")
    np.testing.assert_allclose(back, np.clip(wave, -1, 32767 / 32768), atol=0.5 / 32768 + 1e-7)
    assert probe(tmp_path / "new" / "a.wav").rate == SAMPLE_RATE


def test_names_may_be_unicode(tmp_path: Path) -> None:
    write_wav(tmp_path / "声 ü" / "e\u0301ä.wav", np.full(100, 0.25))
    assert np.all(read(tmp_path / "声 ü" / "e\u0301ä.wav") == 0.25)


def test_pcm_has_the_exact_samples_of_a_16_bit_file_and_rounds_others(tmp_path):
    wave = np.random.default_rng(0).uniform(-1, 1, 8000).astype(np.float32)
    write_wav(tmp_path / "a.wav", wave)
    soundfile.write(tmp_path / "b.wav", wave * 2, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(
        read_pcm(tmp_path / "a.wav", 100, 50), soundfile.read(tmp_path / "a.wav", dtype="int16")[0][100:150]
    )
    loud = read_pcm(tmp_path / "b.wav")
    assert loud.max() == 32767 and loud.min() == -32768  # clipped, not wrapped round
    np.testing.assert_array_equal(loud, to_pcm(wave * 2))
    assert len(read_pcm(tmp_path / "a.wav", 9000, 5)) == 0
