"""Any audio file in, 16-kHz mono out: the only place that opens audio."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from idemvox.audio import opus, pyav
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

__all__ = [
    "FULL_SCALE",
    "SAMPLE_RATE",
    "SUFFIXES",
    "AudioInfo",
    "from_pcm",
    "mono",
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

# How many seconds before the wanted point libsndfile must begin decoding for it to come out right.
# PCM, FLAC: 0, seeking is exact. Opus carries state for a while after a seek (up to 2e-3 of full scale after
# 80 ms, then fading). Vorbis and MP3: from the beginning. libsndfile 1.2.2 seeks up to 200 samples off in
# Vorbis files (its issue 885) and at some rates crashes, and an MP3 frame borrows bits from those before it.
RUN_IN = {"OPUS": 10.0, "VORBIS": math.inf}
RUN_IN |= {f"MPEG_LAYER_{n}": math.inf for n in ("I", "II", "III")}

SUFFIXES = (
    *(
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".mp2",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".snd",
        ".caf",
    ),
    *(".w64", ".rf64", ".sph", ".nist", *pyav.SUFFIXES),
)
"""Names of files that are taken for audio, in any case of letters: the one list of them."""

CONTEXT = 0.1  # seconds on each side of a crop that the resampling filter may look at
BLOCK = 1 << 18  # frames decoded at a time while running in
STREAMED = 0x7FFF_0000  # a WAV data length above this was written before it was known; not a broken file


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
    allows it: a crop of a long WAV or FLAC costs no more than its own length. What PyAV decodes is
    decoded whole for the first crop more than 30 s from its start; later crops seek.

    Args:
        path: WAV, FLAC, Ogg (Vorbis, Opus), MP3 or anything else libsndfile reads; else what PyAV reads:
            MP4, Matroska, WebM, 3GP, AMR, AAC, AC-3, WMA, telephone codecs in WAV. All parts of a file come
            from the same decoder.
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


def mono(samples: Wave) -> Wave:
    """(T, channels) -> (T,) the mean of the channels."""
    return np.ascontiguousarray(samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1))


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


class SndFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on: soundfile by itself seeks after each read to where it is; MP3 loses frames by it."""

    decoder = "libsndfile"

    def seekable(self) -> bool:
        return False

    @property
    def run_in(self) -> float:
        """Seconds before the wanted point at which decoding must begin."""
        return RUN_IN.get(self.subtype, 0.0)

    @property
    def ended(self) -> bool:
        """False for an Ogg stream without its end mark."""
        return "end-of-stream" not in self.extra_info.lower()

    @property
    def promised(self) -> int:
        """Frames that the header speaks of; libsndfile itself quietly corrects a WAV that broke off."""
        frames = int(self.frames)
        stated = re.search(r"^data : (\d+) \(should be (\d+)\)", self.extra_info, re.MULTILINE)
        if stated:
            said, there = int(stated[1]), int(stated[2])
            if there < said < STREAMED:
                return round(frames * said / max(there, 1))
        return frames


@contextmanager
def open_audio(path: str | Path) -> Iterator[SndFile | pyav.AvFile]:
    """Open an audio file; whatever goes wrong while it is open becomes an IdemvoxError naming the path.

    Blocks read one after the other are the whole read at once; ``read`` needs a number of frames.
    """
    path = Path(path)
    if path.suffix.lower() == ".raw":
        raise IdemvoxError(f"cannot read {path}: raw samples have no header; convert to WAV first")
    try:
        path.open("rb").close()  # libsndfile would not say why it cannot
        with ExitStack() as stack:
            yield _opened(path, stack)
    except soundfile.LibsndfileError as error:
        raise IdemvoxError(f"cannot read {path}: {_reason(error)}") from error
    except OSError as error:
        raise IdemvoxError(f"cannot read {path}: {error.strerror or error}") from error


def _opened(path: Path, stack: ExitStack) -> SndFile | pyav.AvFile:
    """Open a file with libsndfile, or with PyAV where libsndfile cannot read it to its end."""
    if path.suffix.lower() in pyav.SUFFIXES:
        return stack.enter_context(pyav.open_av(path))
    try:
        file: SndFile = stack.enter_context(SndFile(path))
    except soundfile.LibsndfileError:
        with suppress(IdemvoxError):
            other = stack.enter_context(pyav.open_av(path))
            if other.frames:  # FFmpeg also opens noise
                return other
        raise
    if file.subtype == "OPUS" and not opus.readable(path):
        return stack.enter_context(pyav.open_av(path))
    return file


def _reason(error: soundfile.LibsndfileError) -> str:
    """libsndfile's own words, without its prefix and where they mislead."""
    words = str(error.error_string).removeprefix("Error : ").rstrip(".").lower()
    if not words or "not recognised" in words or "does not exist" in words:  # it exists: it was just opened
        return "not audio in a format that is supported (WAV, FLAC, Ogg, MP3, MP4, Matroska, WMA and others)"
    return words


def _resampled(file: SndFile | pyav.AvFile, start: int, samples: int | None) -> Wave:
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


def _frames(file: SndFile | pyav.AvFile, start: int, frames: int | None) -> Wave:
    """Mono frames [start, start + frames) at the file's own rate, or as many of them as there are."""
    return mono(_samples(file, start, frames, "float32"))


def _samples(file: SndFile | pyav.AvFile, start: int, frames: int | None, dtype: str) -> npt.NDArray[Any]:
    """Return the same frames of every channel: (T, channels)."""
    available = max(0, file.frames - start)
    frames = available if frames is None else min(frames, available)
    if not frames:
        return np.zeros((0, file.channels), dtype=dtype)
    run_in = file.run_in * file.samplerate
    begin = 0 if run_in >= start else start - int(run_in)
    if begin:
        file.seek(begin)
    for position in range(begin, start, BLOCK):
        file.read(min(BLOCK, start - position), dtype="float32")
    wave: npt.NDArray[Any] = file.read(frames, dtype=dtype, always_2d=True)
    return wave
