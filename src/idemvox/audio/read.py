"""Read any audio file as 16-kHz mono."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from idemvox.arrays import Pcm, Wave
from idemvox.audio.decoders import AudioFile, open_audio
from idemvox.errors import AudioError
from idemvox.files import atomic_write

__all__ = [
    "FULL_SCALE",
    "SAMPLE_RATE",
    "AudioInfo",
    "cancelling",
    "from_pcm",
    "mono",
    "probe",
    "read",
    "read_pcm",
    "to_pcm",
    "warn_truncated",
    "write_wav",
]

_LOG = logging.getLogger(__name__)

SAMPLE_RATE = 16_000
FULL_SCALE = 32_768  # of 16-bit samples


CONTEXT = 0.1  # seconds on each side of a crop for the resampling filter
CANCELLED = 0.01  # power of the channels' mean relative to the louder channel, below which they cancel
BLOCK = 1 << 18  # frames decoded at a time before the wanted point


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
        AudioError: the file is missing or cannot be read as audio; the message gives the path and the reason.
    """
    with open_audio(path) as file:
        return AudioInfo(file.frames, file.samplerate, file.channels)


def read(path: str | Path, start: int = 0, samples: int | None = None) -> Wave:
    """Read audio as 16-kHz mono, whatever the file's format.

    A crop is the same audio as that part of the whole: ``read(p, a, n)`` equals ``read(p)[a:a + n]`` exactly,
    except within 1e-5 if resampled and within 1e-3 beyond the first 10 s of an Opus file. Seeks if the
    format allows it: a crop of a long WAV or FLAC costs no more than its own length. A file that needs PyAV
    is decoded completely for the first crop beyond 30 s. Later crops seek, unless the decoder generates
    noise (most AAC, AC-3).

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or anything else libsndfile reads; otherwise what PyAV reads:
            MP4, Matroska, WebM, 3GP, AMR, AAC, AC-3, WMA, telephone codecs in WAV. All parts of a file come
            from the same decoder.
        start: first sample to read, counted at 16 kHz.
        samples: number of samples, counted at 16 kHz; None reads to the end.

    Returns:
        (T,) float32, full scale at 1; several channels become one by :func:`mono`. T is less than
        ``samples`` if the file ends earlier, and 0 if ``start`` is past its end. If part of
        what was requested is missing because the file is truncated, the rest is returned, with a warning.

    Raises:
        AudioError: the file is missing, is not audio, fails to decode, or has NaN or infinite samples.
    """
    if start < 0 or (samples is not None and samples < 0):
        raise ValueError(f"start and samples must be 0 or more, got {start} and {samples}")
    with open_audio(path) as file:
        if file.samplerate == SAMPLE_RATE:
            return _frames(Path(path), file, start, samples)
        return _resampled(Path(path), file, start, samples)


def read_pcm(path: str | Path, start: int = 0, samples: int | None = None) -> Pcm:
    """Read like :func:`read`, but as 16-bit samples: (T,) int16, full scale at 32768, clipped beyond it.

    The samples of mono 16-bit files at 16 kHz are returned unchanged; anything else is rounded.
    """
    with open_audio(path) as file:
        if file.samplerate == SAMPLE_RATE and file.channels == 1 and file.subtype == "PCM_16":
            pcm: Pcm = _samples(Path(path), file, start, samples, "int16")[:, 0]
            return pcm
    return to_pcm(read(path, start, samples))


def mono(samples: Wave) -> Wave:
    """(T, channels) -> (T,) the mean of the channels, or the louder channel if they cancel each other.

    They cancel if their mean has less than a hundredth of the louder channel's power, as when one of two
    channels has inverted polarity.
    """
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mean: Wave = samples.mean(axis=1)
    louder = cancelling(samples, mean)
    return mean if louder is None else np.ascontiguousarray(samples[:, louder])


def cancelling(samples: Wave, mean: Wave) -> int | None:
    """Return the index of the louder channel of (T, channels) if their mean (T,) cancels; else None."""
    if not len(samples):
        return None
    power = np.square(samples, dtype=np.float64).mean(axis=0)  # (channels,)
    louder = int(power.argmax())
    return louder if np.square(mean, dtype=np.float64).mean() < CANCELLED * power[louder] else None


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


def _resampled(path: Path, file: AudioFile, start: int, samples: int | None) -> Wave:
    """Read a part of a file with another rate: read it with context on each side, resample and trim.

    Source frame ``down * k`` and 16-kHz sample ``up * k`` coincide, so a part that starts at such a frame
    has the same phase as the whole file.
    """
    common = math.gcd(file.samplerate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, file.samplerate // common
    context = math.ceil(CONTEXT * SAMPLE_RATE)
    k = max(0, start - context) // up
    wanted = None
    if samples is not None:
        wanted = math.ceil((start + samples + context) * down / up) - k * down
    source = _frames(path, file, k * down, wanted)
    if not len(source):
        return source
    wave = np.asarray(soxr.resample(source, file.samplerate, SAMPLE_RATE), dtype=np.float32)
    skip = start - k * up
    return wave[skip : None if samples is None else skip + samples].copy()


def _frames(path: Path, file: AudioFile, start: int, frames: int | None) -> Wave:
    """Mono frames [start, start + frames) at the file's own rate, or as many of them as exist."""
    wave = mono(_samples(path, file, start, frames, "float32"))
    finite = np.isfinite(wave)
    if not finite.all():
        when = (start + int(finite.argmin())) / file.samplerate
        raise AudioError(
            f"cannot read {path}: it has NaN or infinite samples (the first at {when:.2f} s); "
            "repair the file or leave it out"
        )
    return wave


def _samples(path: Path, file: AudioFile, start: int, frames: int | None, dtype: str) -> npt.NDArray[Any]:
    """Return the same frames, all channels: (T, channels)."""
    until = file.promised if frames is None else min(start + frames, file.promised)
    available = max(0, file.frames - start)
    frames = available if frames is None else min(frames, available)
    wave = np.zeros((0, file.channels), dtype=dtype)
    if frames:
        run_in = file.run_in * file.samplerate
        begin = 0 if run_in >= start else start - int(run_in)
        if begin:
            file.seek(begin)
        for position in range(begin, start, BLOCK):
            file.read(min(BLOCK, start - position), dtype="float32")
        wave = file.read(frames, dtype=dtype, always_2d=True)
    if start + len(wave) + file.slack * file.samplerate < until:
        warn_truncated(path, round(file.promised / file.samplerate, 2))
    return wave


@lru_cache(1024)
def warn_truncated(path: Path, seconds: float) -> None:
    """Warn once per file that it is truncated."""
    what = "%s is truncated: its header says %.2f s. Using the part that is there; copy the file again"
    _LOG.warning(what, path, seconds)
