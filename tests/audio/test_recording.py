"""A recording in memory gives the same as the same recording in a file."""

from __future__ import annotations

import io
import os
import tempfile

import numpy as np
import pytest
import soundfile
import torch

from idemvox.audio import recording as module
from idemvox.audio.read import read
from idemvox.audio.recording import open_recording, read_recording
from idemvox.errors import IdemvoxError


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; nothing stays in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_32", "FLOAT"])
def test_samples_equal_those_of_a_file(tmp_path, channels, rate, subtype):
    kind = {"PCM_16": "int16", "PCM_32": "int32", "FLOAT": "float32"}[subtype]
    wave = 0.2 * np.random.default_rng(0).standard_normal((5_000, channels))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype=subtype)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype=kind)
    found = read_recording((samples, rate))
    assert found.dtype == np.float32 and samples.shape == ((5_000,) if channels == 1 else (5_000, 2))
    np.testing.assert_array_equal(found, read(tmp_path / "a.wav"))


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS")])
def test_bytes_and_open_files_equal_a_file(tmp_path, kind, subtype):
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, 0.2 * np.sin(np.arange(24_000) / 20), 24_000, format=kind, subtype=subtype)
    expected, data = read(path), path.read_bytes()
    for form in (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data)):
        np.testing.assert_array_equal(read_recording(form), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(read_recording(file), expected)
        assert not file.closed


@pytest.mark.parametrize(
    ("recording", "says"),
    [
        (b"not audio", "cannot read these 9 bytes: not audio"),
        ((np.zeros((2, 16_000)), 16_000), r"\(T, channels\).* \(2, 16000\): transpose"),
        ((np.zeros((1, 2, 3)), 16_000), "transpose"),
        ((np.zeros(16_000), 0), "rate must be from 1,000 to 1,000,000 Hz, got 0"),
        ((np.zeros(16_000, np.uint8), 16_000), "floats or signed integers, not uint8"),
        ((np.full(16_000, np.nan), 16_000), "NaN or infinite"),
        ((np.full(16_000, 1e300), 16_000), "NaN or infinite"),
        ((np.arange(16_000.0), 16_000), r"reach 1.6e\+04, but full scale is 1; divide them"),
        (np.zeros(16_000), r"or \(samples, rate\), not ndarray"),
        (io.StringIO("text"), "binary mode.* not StringIO"),
        (None, "not NoneType"),
    ],
)
def test_impossible_recordings_are_refused(recording, says):
    with pytest.raises(IdemvoxError, match=says):
        read_recording(recording)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int16, torch.bfloat16])
def test_a_tensor_is_channels_by_time_as_in_torchaudio(kind):
    wave = np.random.default_rng(0).integers(-100, 100, (5_000, 2)).astype(np.float32)
    tensor = torch.from_numpy(wave / (1 if kind == torch.int16 else 128)).to(kind)
    expected = wave / (2**15 if kind == torch.int16 else 128)
    for rate in (16_000, 8_000):
        both = read_recording((tensor.T, rate))
        np.testing.assert_array_equal(both, read_recording((expected, rate)))
        one = read_recording((tensor[:, 0].contiguous(), rate))
        np.testing.assert_array_equal(one, read_recording((expected[:, 0], rate)))
    leaf = torch.zeros(1, 1_000, requires_grad=True)
    assert len(read_recording((leaf, 16_000))) == 1_000


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_long_recording_comes_in_blocks(tmp_path, monkeypatch, channels, rate):
    """All samples come once; resampled ones differ from the whole by rounding."""
    wave = 0.2 * np.random.default_rng(0).standard_normal((2 * rate, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    expected = read(tmp_path / "a.wav")
    monkeypatch.setattr(module, "SHORT", 1)
    monkeypatch.setattr(module, "BLOCK", 10_000)
    for form in (tmp_path / "a.wav", (tmp_path / "a.wav").read_bytes(), (wave, rate)):
        heard: list = []

        def hear(samples, mono, heard=heard):
            heard.append(samples)

        with open_recording(form) as source:
            assert (source.rate, source.channels, source.frames) == (rate, channels, 2 * rate)
            for _ in range(2):
                heard.clear()
                blocks = list(source.blocks(hear))
                assert len(heard) == -(-2 * rate * channels // 10_000)
                np.testing.assert_array_equal(np.concatenate(heard), wave)
                np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-5)


def test_a_truncated_long_recording_gives_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module, "SHORT", 1)
    soundfile.write(tmp_path / "a.wav", np.zeros(48_000), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:80_044])
    with open_recording(tmp_path / "a.wav") as source:
        assert sum(map(len, source.blocks())) == 40_000
    assert "a.wav is truncated: its header says 3.00 s" in caplog.text


def test_pipes_and_impossible_rates_are_refused(tmp_path):
    """A pipe would block; at 1 Hz, a second becomes 16,000 times as long."""
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(IdemvoxError, match=r"cannot read .*pipe\.wav: a pipe or device"):
        read_recording(tmp_path / "pipe.wav")
    for rate in (1, 999, 1_000_001):
        soundfile.write(tmp_path / "a.wav", np.zeros(1_000), rate)
        for recording in (tmp_path / "a.wav", (np.zeros(1_000), rate)):
            with pytest.raises(IdemvoxError, match="rate"):
                read_recording(recording)
