"""Read a recording given as a path, bytes, an open file or samples; whole, or in blocks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from idemvox.arrays import Wave
from idemvox.audio.decoders import RATES, open_audio
from idemvox.audio.read import SAMPLE_RATE, mono, read, warn_truncated
from idemvox.audio.sound import LOUDEST
from idemvox.errors import AudioError

__all__ = ["Recording", "Source", "open_recording", "read_recording"]

Recording: TypeAlias = str | Path | bytes | bytearray | memoryview | BinaryIO | tuple[npt.ArrayLike, int]
"""A path; an audio file's bytes; a file open in binary mode; or (samples, rate in Hz).

Samples are floats with full scale at 1, or signed integers: an array (T,) or (T, channels), or a torch tensor
(T,) or (channels, T), as torchaudio has them.
"""

SHORT = 180  # seconds: a recording up to this length is read at once
BLOCK = 1 << 18  # samples of all channels that are read at a time from a longer one
MANY = 1 << 25  # samples of all channels that are too many to be read at once


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A recording that can be read from start to end, as often as needed.

    Attributes:
        name: its path, or "this recording".
        rate: its sample rate in Hz.
        frames: samples per channel, as the header says.
    """

    name: str
    rate: int
    channels: int
    frames: int
    _blocks: Callable[[int], Iterator[Wave]]  # frames at a time -> (T, channels) each

    @property
    def short(self) -> bool:
        """Whether it is short enough to be read at once: up to 3 minutes, unless it has many channels."""
        return self.frames <= SHORT * self.rate and self.frames * self.channels <= MANY

    def blocks(self, hear: Callable[[Wave, Wave], None] | None = None) -> Iterator[Wave]:
        """Yield the recording as blocks (T,) at 16 kHz, mono; a short one as a single block.

        A single block is exactly what :func:`~idemvox.audio.read.read` returns. In a longer recording, each
        block decides for itself whether its channels cancel, and resampling differs by rounding.

        Args:
            hear: called with the samples of each block at their own rate, (T, channels), and mono, (T,).

        Raises:
            AudioError: it cannot be decoded, has NaN or infinite samples, or was not scaled to [-1, 1].
        """
        size = self.frames if self.short else max(1, BLOCK // self.channels)
        resampler = None
        if self.rate != SAMPLE_RATE and not self.short:
            resampler = soxr.ResampleStream(self.rate, SAMPLE_RATE, 1, dtype="float32")
        for samples in self._blocks(size):
            wave = mono(samples)
            _check(wave, self.name)
            if hear is not None:
                hear(samples, wave)
            if self.rate == SAMPLE_RATE:
                yield wave
            elif resampler is not None:
                yield resampler.resample_chunk(wave)
            else:
                yield np.asarray(soxr.resample(wave, self.rate, SAMPLE_RATE), np.float32)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


@contextmanager
def open_recording(recording: Recording, name: str | None = None) -> Iterator[Source]:
    """Open a recording to read it in blocks; it can be read until the block ends.

    Bytes and open files may hold any format that a file may; open files are read to the end. They are
    decoded from a temporary file, because decoders seek and some open a file more than once.

    Args:
        recording: what to read.
        name: of bytes or an open file, for messages; ``None``: "this recording".

    Raises:
        AudioError: it cannot be read, or the samples are not as described in :data:`Recording`.
    """
    if isinstance(recording, str | Path):
        yield _file(Path(recording), str(recording))
    elif isinstance(recording, tuple):
        yield _samples(*recording)
    else:
        with _temporary(recording) as path:
            try:
                yield _file(path, name or "this recording")
            except AudioError as error:
                told = name or f"these {path.stat().st_size:,} bytes"
                raise AudioError(str(error).replace(str(path), told)) from error


def read_recording(recording: Recording) -> Wave:
    """Return (T,) float32 at 16 kHz, as :func:`~idemvox.audio.read.read` would from a file.

    Raises:
        AudioError: it cannot be read, or the samples are not as described in :data:`Recording`.
    """
    if isinstance(recording, str | Path):
        return read(recording)
    with open_recording(recording) as source:
        blocks = list(source.blocks())
        return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _check(wave: Wave, name: str) -> None:
    """Refuse samples that are not finite, or far beyond full scale."""
    peak = np.abs(wave).max(initial=0)  # keeps NaN
    if not np.isfinite(peak):
        raise AudioError(f"cannot read {name}: it has NaN or infinite samples; repair it or leave it out")
    if peak > LOUDEST:
        raise AudioError(
            f"cannot read {name}: its samples reach {peak:.3g}, but full scale is 1; divide them (those of 16"
            " bits by 32768)"
        )


def _file(path: Path, name: str) -> Source:
    with open_audio(path) as file:
        return Source(
            name, file.samplerate, file.channels, file.frames, lambda size: _file_blocks(path, size)
        )


def _file_blocks(path: Path, size: int) -> Iterator[Wave]:
    with open_audio(path) as file:
        position = 0
        while wanted := min(size, file.frames - position):
            block = file.read(wanted, dtype="float32", always_2d=True)
            if not len(block):
                break
            yield block
            position += len(block)
        if position + file.slack * file.samplerate < file.promised:
            warn_truncated(path, round(file.promised / file.samplerate, 2))


@contextmanager
def _temporary(recording: Any) -> Iterator[Path]:
    """Write bytes or the rest of an open file to a temporary file."""
    opened = hasattr(recording, "read")
    if not opened and not isinstance(recording, bytes | bytearray | memoryview):
        raise _not_a_recording(recording)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording"
        with path.open("wb") as file:
            if opened:
                try:
                    shutil.copyfileobj(recording, file)
                except TypeError as error:
                    raise _not_a_recording(recording) from error
            else:
                file.write(recording)
        yield path


def _not_a_recording(recording: Any) -> AudioError:
    return AudioError(
        "a recording is a path, an audio file's bytes, a file open in binary mode, or (samples, rate), not"
        f" {type(recording).__name__}"
    )


def _samples(samples: Any, rate: int) -> Source:
    name = "this recording"
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"the sample rate must be from {RATES[0]:,} to {RATES[1]:,} Hz, got {rate}")
    array = _from_tensor(samples) if hasattr(samples, "detach") else np.asarray(samples)
    wave: npt.NDArray[Any] = array[:, None] if array.ndim == 1 else array  # (T, channels)
    if wave.ndim != 2 or wave.shape[1] > max(1, len(wave)):
        raise AudioError(
            f"samples must be (T,) or (T, channels), but their shape is {array.shape}: transpose them?"
        )
    scale = 1.0
    if np.issubdtype(wave.dtype, np.signedinteger):
        scale = -float(np.iinfo(wave.dtype).min)
    elif not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(f"samples must be floats or signed integers, not {wave.dtype}")

    def blocks(size: int) -> Iterator[Wave]:
        for start in range(0, len(wave), max(size, 1)):
            with np.errstate(over="ignore"):  # what is infinite as float32 is refused
                yield np.asarray(wave[start : start + size] / scale, np.float32)

    return Source(name, int(rate), wave.shape[1], len(wave), blocks)


def _from_tensor(tensor: Any) -> npt.NDArray[Any]:
    """Return the samples of a torch tensor, (T,) or (channels, T), as an array, (T,) or (T, channels)."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    array: npt.NDArray[Any] = tensor.numpy()
    return array.T if array.ndim == 2 else array
