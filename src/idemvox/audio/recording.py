"""Read a recording given as a path, bytes, an open file or samples."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from idemvox.arrays import Wave
from idemvox.audio.read import SAMPLE_RATE, mono, read
from idemvox.errors import AudioError

__all__ = ["Recording", "read_recording"]

Recording: TypeAlias = str | Path | bytes | bytearray | memoryview | BinaryIO | tuple[npt.ArrayLike, int]
"""A path; an audio file's bytes; a file open in binary mode; or (samples, rate in Hz).

Samples are (T,) or (T, channels): floats with full scale at 1, or signed integers.
"""


def read_recording(recording: Recording) -> Wave:
    """Return (T,) float32 at 16 kHz, as :func:`~idemvox.audio.read.read` would from a file.

    Bytes and open files may hold any format that a file may; open files are read to the end. They are
    decoded from a temporary file, because decoders seek and some open a file more than once.

    Raises:
        AudioError: it cannot be read, or the samples are not as described in :data:`Recording`.
    """
    if isinstance(recording, str | Path):
        return read(recording)
    if isinstance(recording, tuple):
        return _from_samples(*recording)
    data = recording.read() if hasattr(recording, "read") else recording
    if not isinstance(data, bytes | bytearray | memoryview):
        raise AudioError(
            "a recording is a path, an audio file's bytes, a file open in binary mode, or (samples, rate),"
            f" not {type(recording).__name__}"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        path.write_bytes(data)
        try:
            return read(path)
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), f"these {len(data):,} bytes")) from error


def _from_samples(samples: npt.ArrayLike, rate: int) -> Wave:
    array = np.asarray(samples)
    wave: npt.NDArray[Any] = array[:, None] if array.ndim == 1 else array  # (T, channels)
    if wave.ndim != 2 or wave.shape[1] > max(1, len(wave)):
        raise AudioError(
            f"samples must be (T,) or (T, channels), but their shape is {array.shape}: transpose them?"
        )
    if rate <= 0:
        raise AudioError(f"the sample rate must be above 0 Hz, got {rate}")
    if np.issubdtype(wave.dtype, np.signedinteger):
        wave = wave / -float(np.iinfo(wave.dtype).min)
    elif not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(f"samples must be floats or signed integers, not {wave.dtype}")
    if not np.isfinite(wave).all():
        raise AudioError("the recording has NaN or infinite samples: repair it or leave it out")
    one = mono(np.asarray(wave, np.float32))
    return one if rate == SAMPLE_RATE else np.asarray(soxr.resample(one, rate, SAMPLE_RATE), np.float32)
