"""A recording in memory is heard as the same recording in a file."""

from __future__ import annotations

import io
import tempfile

import numpy as np
import pytest
import soundfile

from idemvox.audio.read import read
from idemvox.audio.recording import read_recording
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
def test_samples_are_those_of_a_file(tmp_path, channels, rate, subtype):
    kind = {"PCM_16": "int16", "PCM_32": "int32", "FLOAT": "float32"}[subtype]
    wave = 0.2 * np.random.default_rng(0).standard_normal((5_000, channels))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype=subtype)
    samples, _ = soundfile.read(tmp_path / "a.wav", dtype=kind)
    found = read_recording((samples, rate))
    assert found.dtype == np.float32 and samples.shape == ((5_000,) if channels == 1 else (5_000, 2))
    np.testing.assert_array_equal(found, read(tmp_path / "a.wav"))


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "OPUS")])
def test_bytes_and_open_files_are_those_of_a_file(tmp_path, kind, subtype):
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
        ((np.zeros(16_000), 0), "rate must be above 0 Hz, got 0"),
        ((np.zeros(16_000, np.uint8), 16_000), "floats or signed integers, not uint8"),
        ((np.full(16_000, np.nan), 16_000), "NaN or infinite"),
        (np.zeros(16_000), r"or \(samples, rate\), not ndarray"),
        (io.StringIO("text"), "binary mode.* not StringIO"),
        (None, "not NoneType"),
    ],
)
def test_refuses(recording, says):
    with pytest.raises(IdemvoxError, match=says):
        read_recording(recording)
