"""The second decoder: FFmpeg's, through PyAV, for what libsndfile cannot read; used as soundfile's is."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from idemvox.errors import AudioError

if TYPE_CHECKING:
    from av import AudioFrame
    from av.container import InputContainer

__all__ = ["SUFFIXES", "AvFile", "open_av"]

SUFFIXES = (
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".3g2", ".aac", ".webm", ".weba", ".mkv", ".mka"),
    *(".amr", ".awb", ".ac3", ".eac3", ".wma", ".asf", ".spx", ".wv", ".tta", ".ape"),
)
"""What libsndfile knows nothing of. Files with other names are tried with libsndfile first."""

# Containers that say how long the sound is; the others are bare packets, of which FFmpeg guesses it.
TIMED = frozenset({"mov", "matroska", "ogg", "wav", "w64", "flac", "aiff", "caf", "asf", "wv", "tta", "ape"})
BARE = frozenset({"aac", "amr", "ac3", "eac3", "mp3", "nistsphere", "au"})
# No format that opens further files or addresses, as playlists do.
DEMUXERS = {"format_whitelist": ",".join(sorted(TIMED | BARE))}

NEAR = 30  # seconds from the start of a file within which seeking is not worth the effort
BEFORE = (2, 10)  # seconds before the wanted sample at which decoding begins, one after the other

Wave: TypeAlias = npt.NDArray[np.float32]
Key: TypeAlias = tuple[str, int, int]  # path, size, time of change: one state of a file


class AvFile:
    """An open file, decoded straight on: what is used here of soundfile's SoundFile.

    Attributes:
        frames: per channel, that the header promises, or that the packets hold where it says nothing.
        subtype: the codec, such as ``AAC``.
    """

    decoder = "PyAV"
    ended = True
    slack = 0.1  # seconds by which a good file may be shorter than its header says
    run_in = 0.0

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.frames = self.promised = _length(_key(path))
        self._path = path
        self._stack = stack  # closes what was opened
        self._blocks = self._from_start()
        context = self._container.streams.audio[0].codec_context
        self.samplerate = int(context.sample_rate)
        self.channels = int(context.channels)
        self.subtype = context.codec.canonical_name.upper()
        self._position = 0
        self._rest: Wave = np.zeros((0, self.channels), np.float32)

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = False) -> Wave:
        """Return the next frames, (T, channels) float32; of one channel (T,) unless ``always_2d``."""
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
        """Read on from ``frame``, counted from the first sample that decoding the whole file gives."""
        if frame == self._position:
            return
        position, self._blocks = self._near(frame)
        self._rest = self._rest[:0]
        while position < frame and (block := next(self._blocks, None)) is not None:
            position += len(block)
            self._rest = block[len(block) - max(0, position - frame) :]
        self._position = frame

    def _near(self, frame: int) -> tuple[int, Iterator[Wave]]:
        """Where decoding begins for the sake of ``frame``, and what is decoded from there on.

        Time stamps do not say which sample a packet holds: Matroska rounds them to milliseconds, they jump
        where packets were lost, and some demuxers get them wrong after a seek. Decoders also carry state from
        packet to packet. So decoding begins a little early, and what comes out is believed from the
        first second on whose samples are, bit for bit, those of the whole file's decoding. Where none is,
        because a decoder makes up noise from a state that runs on (AAC may, AC-3 does), decoding begins at
        the start of the file.
        """
        stream = self._container.streams.audio[0]
        seconds = _seconds(_key(self._path)) if frame > NEAR * self.samplerate else {}
        for before in BEFORE:
            early = [s for s, (at, _) in seconds.items() if at <= frame - before * self.samplerate]
            if not early:
                break
            self._container.seek(early[-1], stream=stream)
            decoded = self._container.decode(stream)
            for one in decoded:
                at, mark = seconds.get(one.pts or 0, (0, 0))
                if at > frame:
                    break
                if at and mark == _mark(one):
                    return at, self._waves(chain([one], decoded))
        return 0, self._from_start()

    def _from_start(self) -> Iterator[Wave]:
        """Decode from the start. The file is opened again: a seek to 0 may leave out what is before."""
        self._stack.close()
        self._container = self._stack.enter_context(_container(self._path))
        return self._waves(self._container.decode(self._container.streams.audio[0]))

    def _waves(self, frames: Iterable[AudioFrame]) -> Iterator[Wave]:
        """Turn decoded frames into samples, (T, channels)."""
        from av import AudioResampler

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
    """Open the first sound track of a file.

    Raises:
        AudioError: no sound in the file, or it cannot be decoded.
    """
    from av import FFmpegError

    try:
        with ExitStack() as stack:
            yield AvFile(path, stack)
    except FFmpegError as error:
        raise AudioError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def _container(path: str | Path) -> Iterator[InputContainer]:
    import av

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
    """Frames that the header promises, or that the packets hold where it says nothing (.aac, fragments)."""
    with _container(key[0]) as container:
        sound = next(iter(container.streams.audio), None)
        if sound is None or sound.codec_context is None:
            raise AudioError(f"cannot read {key[0]}: no sound in it, or of a kind that PyAV does not know")
        rate, unit = sound.codec_context.sample_rate, sound.time_base or 0
        names = set(container.format.name.split(","))
        if TIMED & names and sound.duration:
            seconds = float(sound.duration * unit)
        elif TIMED & names and container.duration:
            seconds = container.duration / 1e6 - float((sound.start_time or 0) * unit)
        else:
            return round(sum(int(packet.duration or 0) for packet in container.demux(sound)) * unit * rate)
        unheard = sound.codec_context.delay if {"ogg", "matroska"} & names else 0  # that decoding leaves out
        return max(0, round(seconds * rate) - unheard)


@lru_cache(256)
def _seconds(key: Key) -> Mapping[int, tuple[int, int]]:
    """Decode a file once for where each second of it begins: time stamp -> samples before it, its mark."""
    from av import FFmpegError

    seconds: dict[int, tuple[int, int]] = {}
    position = due = latest = 0
    with _container(key[0]) as container:
        try:
            for frame in container.decode(container.streams.audio[0]):
                if position >= due and frame.pts is not None and frame.pts > latest and (m := _mark(frame)):
                    seconds[frame.pts] = position, m
                    due, latest = position + frame.sample_rate, frame.pts
                position += frame.samples
        except FFmpegError:  # a broken file: whoever reads on will be told
            pass
    return seconds


def _mark(frame: AudioFrame) -> int:
    """Return a number that tells decoded samples from others; 0 for silence, which proves nothing."""
    samples = frame.to_ndarray()
    return zlib.crc32(samples.tobytes()) or 1 if np.ptp(samples) else 0
