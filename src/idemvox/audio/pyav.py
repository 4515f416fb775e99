"""The second decoder: FFmpeg through PyAV, for files libsndfile cannot read; same interface as soundfile."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import dropwhile
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av import AudioFrame, AudioResampler, FFmpegError
from av.container import InputContainer

from idemvox.arrays import Wave
from idemvox.errors import AudioError

__all__ = ["SUFFIXES", "AvFile", "open_av"]

SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".webm", ".weba", ".mkv", ".mka"),
    *(".amr", ".awb", ".ac3", ".eac3", ".wma", ".asf", ".spx", ".wv", ".tta", ".ape"),
)
"""Formats that libsndfile does not support. Files with other suffixes are tried with libsndfile first."""

# Containers that state the length of the sound; the others are bare packets, whose length FFmpeg guesses.
TIMED = frozenset({"mov", "matroska", "ogg", "wav", "w64", "flac", "aiff", "caf", "asf", "wv", "tta", "ape"})
BARE = frozenset({"aac", "amr", "ac3", "eac3", "mp3", "nistsphere", "au"})
# Excludes formats that open other files or URLs, such as playlists.
DEMUXERS = {"format_whitelist": ",".join(sorted(TIMED | BARE))}

NEAR = 30  # seconds from the start of a file within which seeking is not worthwhile
BEFORE = (2, 10)  # seconds before the wanted one at which decoding starts; 10 if 2 are too few

# One second of a file: time stamp of its first frame, its first sample, the one after its last, a checksum.
SECOND = np.dtype([("stamp", "i8"), ("start", "i8"), ("end", "i8"), ("crc", "u4")])
Key: TypeAlias = tuple[str, int, int]  # path, size, modification time: one version of a file


class AvFile:
    """An open file, decoded sequentially, with the part of soundfile.SoundFile's interface that idemvox uses.

    Attributes:
        frames: per channel: as the header says, or counted from the packets if it says nothing.
        subtype: the codec, such as ``AAC``.
    """

    decoder = "PyAV"
    ended = True
    slack = 0.1  # seconds by which a valid file may be shorter than its header says
    run_in = 0.0

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.frames = self.promised = _length(_key(path))
        self._path = path
        self._stack = stack  # closes whatever was opened
        self._blocks = self._from_start()
        context = self._container.streams.audio[0].codec_context
        self.samplerate = int(context.sample_rate)
        self.channels = int(context.channels)
        self.subtype = context.codec.canonical_name.upper()
        self._position = 0
        self._rest: Wave = np.zeros((0, self.channels), np.float32)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = False) -> Wave:
        """Return the next frames, (T, channels) float32; a single channel is (T,) unless ``always_2d``."""
        frames = max(0, min(frames, self.frames - self._position))
        pieces, count = [self._rest], len(self._rest)
        while count < frames and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            count += len(block)
        joined = np.concatenate(pieces)
        wave, self._rest = joined[:frames], joined[frames:]
        self._position += len(wave)
        return wave if always_2d or self.channels > 1 else wave[:, 0]

    def seek(self, frame: int) -> None:
        """Continue reading at ``frame``, counted from the first sample of the fully decoded file."""
        if frame != self._position:
            self._blocks = self._from(frame)
            self._rest = self._rest[:0]
            self._position = frame

    def _from(self, frame: int) -> Iterator[Wave]:
        """Decode from sample ``frame`` on, bit for bit as when the whole file is decoded.

        Time stamps do not tell which sample a packet holds: Matroska rounds them to milliseconds, they jump
        where packets were lost, and some demuxers get them wrong after a seek. Decoders also carry state from
        packet to packet. So decoding starts a little early, and every decoded second is compared with the
        same second of the fully decoded file. If they differ, decoding starts again at the start of the file.
        They differ when a decoder generates noise from a running state (AAC may, AC-3 does).
        """
        at = frame
        index = _seconds(_key(self._path)) if frame > NEAR * self.samplerate else None
        if index is not None:
            number = int(np.searchsorted(index.seconds["end"], frame, side="right"))
            for before in BEFORE:
                if at > frame or not before <= number < len(index.seconds):
                    break
                for end, wave in self._checked(index.seconds[number - before :], before):
                    yield wave[len(wave) - (end - at) :]
                    at = end
            if at == index.seconds["end"][-1] and index.whole:
                return
        position = 0
        for block in self._from_start():
            position += len(block)
            if position > at:
                yield block[max(0, len(block) - (position - at)) :]

    def _checked(self, seconds: npt.NDArray[np.void], before: int) -> Iterator[tuple[int, Wave]]:
        """Decode from the first second; yield the end and the samples of each from number ``before`` on.

        Stops at a second that differs from the fully decoded file, or that cannot be decoded.
        """
        stream = self._container.streams.audio[0]
        stamp = int(seconds["stamp"][before])
        with suppress(FFmpegError):
            self._container.seek(int(seconds["stamp"][0]), stream=stream)
            decoded = dropwhile(lambda f: f.pts is None or f.pts < stamp, self._container.decode(stream))
            for second in seconds[before:]:
                frames: list[AudioFrame] = []
                left, crc = int(second["end"] - second["start"]), 0
                while left > 0 and (frame := next(decoded, None)) is not None:
                    frames.append(frame)
                    left, crc = left - frame.samples, _crc(frame, crc)
                if left or crc != second["crc"]:
                    return
                yield int(second["end"]), np.concatenate(list(self._waves(frames)))

    def _from_start(self) -> Iterator[Wave]:
        """Decode from the start. Reopens the file: a seek to 0 may skip audio with earlier time stamps."""
        self._stack.close()
        self._container = self._stack.enter_context(_container(self._path))
        return self._waves(self._container.decode(self._container.streams.audio[0]))

    def _waves(self, frames: Iterable[AudioFrame]) -> Iterator[Wave]:
        """Convert decoded frames to samples, (T, channels)."""
        to_float = AudioResampler(format="fltp")
        for frame in frames:
            now = (frame.sample_rate, frame.layout.nb_channels)
            if now != (self.samplerate, self.channels):
                was = f"{self.samplerate} Hz and {self.channels} channels"
                change = f"changes from {was} to {now[0]} Hz and {now[1]}; convert it first"
                raise AudioError(f"cannot read {self._path}: {change}")
            for one in to_float.resample(frame):
                yield np.asarray(one.to_ndarray(), np.float32).T


@contextmanager
def open_av(path: Path) -> Iterator[AvFile]:
    """Open the first audio track of a file.

    Raises:
        AudioError: the file has no audio track, or it cannot be decoded.
    """
    try:
        with ExitStack() as stack:
            yield AvFile(path, stack)
    except FFmpegError as error:
        raise AudioError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _container(path: str | Path) -> Iterator[InputContainer]:
    with (
        open(path, "rb") as file,
        av.open(file, "r", options=DEMUXERS, metadata_errors="replace") as container,
    ):
        yield container


def _key(path: Path) -> Key:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns


@lru_cache(4096)
def _length(key: Key) -> int:
    """Frames as the header says, or counted from the packets if it says nothing (.aac, fragmented MP4)."""
    with _container(key[0]) as container:
        sound = next(iter(container.streams.audio), None)
        if sound is None or sound.codec_context is None:
            raise AudioError(f"cannot read {key[0]}: it has no audio track that PyAV can decode")
        rate, unit = sound.codec_context.sample_rate, sound.time_base or 0
        names = set(container.format.name.split(","))
        if TIMED & names and sound.duration:
            seconds = float(sound.duration * unit)
        elif TIMED & names and container.duration:
            seconds = container.duration / 1e6 - float((sound.start_time or 0) * unit)
        else:
            return round(sum(int(packet.duration or 0) for packet in container.demux(sound)) * unit * rate)
        unheard = sound.codec_context.delay if {"ogg", "matroska"} & names else 0  # which decoding drops
        return max(0, round(seconds * rate) - unheard)


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The result of decoding a whole file, second by second."""

    seconds: npt.NDArray[np.void]  # (N,) of SECOND
    whole: bool  # False: decoding stopped with an error


@lru_cache(1024)
def _seconds(key: Key) -> _Index | None:
    """Decode a file once and index its seconds; None if its frames have no time stamps."""
    seconds: list[tuple[int, int, int, int]] = []
    whole = True
    with _container(key[0]) as container:
        stamp = start = end = crc = 0
        try:
            for frame in container.decode(container.streams.audio[0]):
                if end - start >= frame.sample_rate and frame.pts is not None and frame.pts > stamp:
                    seconds.append((stamp, start, end, crc))
                    stamp, start, crc = frame.pts, end, 0
                end, crc = end + frame.samples, _crc(frame, crc)
        except FFmpegError:  # reading this part raises it again
            whole = False
        seconds.append((stamp, start, end, crc))
    return _Index(np.array(seconds, SECOND), whole) if len(seconds) > 1 else None


def _crc(frame: AudioFrame, before: int) -> int:
    return zlib.crc32(frame.to_ndarray().tobytes(), before)
