"""Any audio file in, 16-kHz mono out: the only place that opens audio."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from idemvox.audio.mp4 import SUFFIXES as MP4
from idemvox.audio.mp4 import Mp4File, open_mp4
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

__all__ = [
    "EXTENSIONS",
    "FULL_SCALE",
    "SAMPLE_RATE",
    "AudioInfo",
    "from_pcm",
    "probe",
    "read",
    "read_pcm",
    "to_pcm",
    "write_wav",
]

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768  # of 16-bit samples

Wave = npt.NDArray[np.float32]
Pcm = npt.NDArray[np.int16]

# How many seconds before the wanted point decoding must begin for it to come out right. PCM, FLAC: 0, seeking
# is exact. Opus carries state for a while after a seek (up to 2e-3 of full scale after 80 ms, then fading).
# Vorbis and MP3: from the beginning. libsndfile 1.2.2 seeks up to 200 samples off in Vorbis files (its issue
# 885) and at some rates crashes, and an MP3 frame borrows bits from the frames before it. AAC: see Mp4File.
RUN_IN = {"OPUS": 10.0, "VORBIS": math.inf, "AAC": math.inf}
RUN_IN |= {f"MPEG_LAYER_{n}": math.inf for n in ("I", "II", "III")}

EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", *MP4)  # in any case of letters
FOREIGN = frozenset({".wma", ".amr", ".webm", ".3gp"})  # audio that nothing here decodes

CONTEXT = 0.1  # seconds on each side of a crop that the resampling filter may look at
BLOCK = 1 << 18  # frames decoded at a time while running in


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What an audio file's header says."""

    frames: int  # per channel, at `rate`
    rate: int  # Hz
    channels: int

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.frames / self.rate


def probe(path: str | Path) -> AudioInfo:
    """Read an audio file's header.

    Raises:
        IdemvoxError: no such file, or not audio that can be read; gives the path and the reason.
    """
    with open_audio(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(path: str | Path, start: int = 0, samples: int | None = None) -> Wave:
    """Read audio as 16-kHz mono, whatever the file holds.

    A crop is the same audio as that part of the whole: ``read(p, a, n)`` is ``read(p)[a:a + n]``, to within
    1e-3 more than 10 s into an Opus file, 1e-5 where resampled, exactly otherwise. Seeks where the format
    allows it: a crop of a long WAV or FLAC costs no more than its own length.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or anything else libsndfile reads; M4A, AAC and MP4 where
            PyAV is installed (``idemvox[m4a]``), whose length is that of the header, true to a millisecond.
        start: first sample wanted, counted at 16 kHz.
        samples: how many, counted at 16 kHz; None reads to the end.

    Returns:
        (T,) float32, full scale at 1; channels averaged. T is less than ``samples`` where the file ends
        earlier, and 0 where ``start`` is past its end.

    Raises:
        IdemvoxError: the file is missing, is not audio, or breaks off while being decoded.
    """
    if start < 0 or (samples is not None and samples < 0):
        raise ValueError(f"start and samples count from 0, got {start} and {samples}")
    with open_audio(path) as file:
        if file.samplerate == SAMPLE_RATE:
            return _frames(file, start, samples)
        return _resampled(file, start, samples)


def read_pcm(path: str | Path, start: int = 0, samples: int | None = None) -> Pcm:
    """Read as :func:`read` does, as 16-bit samples: (T,) int16, full scale at 32768, clipped beyond it.

    Mono 16-bit files at 16 kHz give their very samples; anything else is rounded.
    """
    with open_audio(path) as file:
        if file.samplerate == SAMPLE_RATE and file.channels == 1 and file.subtype == "PCM_16":
            pcm: Pcm = _samples(file, start, samples, "int16")[:, 0]
            return pcm
    return to_pcm(read(path, start, samples))


def to_pcm(wave: npt.NDArray[np.floating]) -> Pcm:
    """Round a wave with full scale at 1 to 16 bits, clipped beyond it."""
    pcm: Pcm = np.clip(np.rint(wave * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return pcm


def from_pcm(pcm: Pcm) -> Wave:
    """Return 16-bit samples as a wave with full scale at 1."""
    return pcm.astype(np.float32) * np.float32(1 / FULL_SCALE)


def write_wav(path: str | Path, wave: npt.ArrayLike, rate: int = SAMPLE_RATE) -> None:
    """Write a mono wave (full scale at 1, clipped beyond it) as 16-bit PCM WAV, atomically."""
    pcm = to_pcm(np.asarray(wave, dtype=np.float64))
    with atomic_write(path, "wb") as file:
        soundfile.write(file, pcm, rate, format="WAV", subtype="PCM_16")


class _Straight(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on: soundfile otherwise seeks after each read to where it is; MP3 loses frames by it."""

    def seekable(self) -> bool:
        return False


@contextmanager
def open_audio(path: str | Path) -> Iterator[soundfile.SoundFile | Mp4File]:
    """Open an audio file; whatever goes wrong while it is open becomes an IdemvoxError naming the path.

    Blocks read one after the other are the whole read at once; ``read`` needs a number of frames.
    """
    path = Path(path)
    if path.suffix.lower() == ".raw":
        raise IdemvoxError(f"cannot read {path}: raw samples have no header; convert to WAV first")
    try:
        if path.suffix.lower() in MP4:
            with open_mp4(path) as sound:
                yield sound
        else:
            with path.open("rb"), _Straight(path) as file:
                yield file
    except soundfile.LibsndfileError as error:
        raise IdemvoxError(f"cannot read {path}: {_reason(path, error)}") from error
    except OSError as error:
        raise IdemvoxError(f"cannot read {path}: {error.strerror or error}") from error


def _reason(path: Path, error: soundfile.LibsndfileError) -> str:
    """libsndfile's own words, without its prefix and where they mislead."""
    if path.suffix.lower() in FOREIGN:
        return f"{path.suffix} files are not supported; convert first, e.g. ffmpeg -i IN{path.suffix} OUT.wav"
    words = str(error.error_string).removeprefix("Error : ").rstrip(".").lower()
    if not words or "not recognised" in words or "does not exist" in words:  # it exists: it was just opened
        return "not audio in a format that is supported (WAV, FLAC, Ogg Vorbis, Ogg Opus, MP3)"
    return words


def _resampled(file: soundfile.SoundFile, start: int, samples: int | None) -> Wave:
    """Read a part of a file of another rate: source frames with context either side, resampled and trimmed.

    Source frame ``down * k`` and 16-kHz sample ``up * k`` fall together, so a piece that begins at such a
    frame has the phase of the whole.
    """
    common = math.gcd(file.samplerate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, file.samplerate // common
    context = math.ceil(CONTEXT * SAMPLE_RATE)
    k = max(0, start - context) // up
    wanted = None
    if samples is not None:
        wanted = math.ceil((start + samples + context) * down / up) - k * down
    source = _frames(file, k * down, wanted)
    if not len(source):
        return source
    wave = np.asarray(soxr.resample(source, file.samplerate, SAMPLE_RATE), dtype=np.float32)
    skip = start - k * up
    return wave[skip : None if samples is None else skip + samples].copy()


def _frames(file: soundfile.SoundFile, start: int, frames: int | None) -> Wave:
    """Mono frames [start, start + frames) at the file's own rate, or as many of them as there are."""
    wave = _samples(file, start, frames, "float32")
    return np.ascontiguousarray(wave[:, 0] if wave.shape[1] == 1 else wave.mean(axis=1))


def _samples(file: soundfile.SoundFile, start: int, frames: int | None, dtype: str) -> npt.NDArray[Any]:
    """Return the same frames of every channel: (T, channels)."""
    available = max(0, file.frames - start)
    frames = available if frames is None else min(frames, available)
    if not frames:
        return np.zeros((0, file.channels), dtype=dtype)
    run_in = RUN_IN.get(file.subtype, 0.0) * file.samplerate
    begin = 0 if run_in >= start else start - int(run_in)
    if begin:
        file.seek(begin)
    for position in range(begin, start, BLOCK):
        file.read(min(BLOCK, start - position), dtype="float32")
    wave: npt.NDArray[Any] = file.read(frames, dtype=dtype, always_2d=True)
    return wave
