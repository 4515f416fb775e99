"""Choose the decoder of a file: libsndfile, or PyAV if libsndfile cannot read it to its end."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import soundfile

from idemvox.audio import opus, pyav
from idemvox.errors import AudioError

__all__ = ["SUFFIXES", "AudioFile", "open_audio"]

# How many seconds before the wanted point libsndfile must start decoding to decode it correctly.
# PCM, FLAC: 0, seeking is exact. Opus takes a while to settle after a seek (an error of up to 2e-3 of full
# scale after 80 ms, then fading). Vorbis and MP3: from the start. In Vorbis, libsndfile 1.2.2 seeks up to
# 200 samples off (its issue 885) and crashes at some rates; an MP3 frame borrows bits from earlier frames.
RUN_IN = {"OPUS": 10.0, "VORBIS": math.inf}
RUN_IN |= {f"MPEG_LAYER_{n}": math.inf for n in ("I", "II", "III")}

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", *pyav.SUFFIXES),
)
"""File suffixes that count as audio, in upper or lower case. The only such list."""

SLACK = 0.1  # seconds by which a header may be wrong: MP3 headers guess, some Opus counts a packet too many
STREAMED = 0x7FFF_0000  # a WAV data length above this is a placeholder of a streamed file, not a broken file
RATES = (1_000, 1_000_000)  # Hz: a damaged header may state any
UNKNOWN = 2**62  # libsndfile reports more frames than this for a FLAC that was written to a pipe


class SndFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads sequentially. soundfile itself seeks after each read, by which MP3 loses frames."""

    decoder = "libsndfile"

    def seekable(self) -> bool:
        return False

    @property
    def run_in(self) -> float:
        """Seconds before the wanted point at which decoding must start."""
        return RUN_IN.get(self.subtype, 0.0)

    @property
    def slack(self) -> float:
        """Seconds by which a valid file may be shorter than its header says."""
        return SLACK if self.subtype.startswith("MPEG") or self.subtype == "OPUS" else 0.0

    @property
    def ended(self) -> bool:
        """False for an Ogg stream without its end mark."""
        return "end-of-stream" not in self.extra_info.lower()

    @property
    def promised(self) -> int:
        """Frames that the header claims. For a truncated WAV, libsndfile silently corrects ``frames``."""
        frames = int(self.frames)
        stated = re.search(r"^data : (\d+) \(should be (\d+)\)", self.extra_info, re.MULTILINE)
        if stated:
            said, there = int(stated[1]), int(stated[2])
            if there < said < STREAMED:
                return round(frames * said / max(there, 1))
        return frames


AudioFile: TypeAlias = SndFile | pyav.AvFile


@contextmanager
def open_audio(path: str | Path) -> Iterator[AudioFile]:
    """Open an audio file; any error while it is open becomes an AudioError that names the path.

    Reading it block by block gives the same samples as reading it at once. Its ``read`` needs a frame count.
    """
    path = Path(path)
    if path.suffix.lower() == ".raw":
        raise AudioError(f"cannot read {path}: raw samples have no header; convert it to WAV first")
    try:
        if not (path.is_file() or path.is_dir()) and path.exists():
            raise AudioError(f"cannot read {path}: a pipe or device, not a file")  # may block, or never end
        path.open("rb").close()  # for its error message: libsndfile would not say why
        if path.stat().st_size == 0:
            raise AudioError(f"cannot read {path}: not audio, the file is empty")
        with ExitStack() as stack:
            file = _opened(path, stack)
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise AudioError(
                    f"cannot read {path}: its header states an impossible rate, {file.samplerate} Hz"
                )
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"cannot read {path}: {_reason(error)}") from error
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror or error}") from error


def _opened(path: Path, stack: ExitStack) -> AudioFile:
    """Open a file with libsndfile, or with PyAV if libsndfile cannot read it to its end."""
    if path.suffix.lower() in pyav.SUFFIXES:
        return stack.enter_context(pyav.open_av(path))
    try:
        file: SndFile = stack.enter_context(SndFile(path))
    except soundfile.LibsndfileError:
        with suppress(AudioError):
            other = stack.enter_context(pyav.open_av(path))
            if other.frames:  # FFmpeg also opens files that are not audio
                return other
        raise
    if file.frames > UNKNOWN or (file.subtype == "OPUS" and not opus.readable(path)):
        return stack.enter_context(pyav.open_av(path))
    return file


def _reason(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's message without its prefix, or our own where its message misleads."""
    words = str(error.error_string).removeprefix("Error : ").rstrip(".").lower()
    if not words or "not recognised" in words or "does not exist" in words:  # it does: it was just opened
        return "not audio in a supported format (WAV, FLAC, Ogg, MP3, MP4, Matroska, WMA and others)"
    return words
