"""The sound of .m4a, .aac and .mp4 files through PyAV, an extra, read as soundfile reads other formats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["SUFFIXES", "Mp4File", "open_mp4"]

SUFFIXES = (".m4a", ".aac", ".mp4")
DEMUXERS = {"format_whitelist": "mov,aac"}  # none that opens further files or addresses, as playlists do

Wave = npt.NDArray[np.float32]


class Mp4File:
    """An open file, decoded straight on from its beginning: what is used here of soundfile's SoundFile.

    There is no seeking: AAC may hold noise that the decoder makes up from a state that runs on from the first
    frame (perceptual noise substitution), so after a seek other samples would come out.
    """

    subtype = "AAC"
    extra_info = ""

    def __init__(self, path: Path, container: InputContainer, frames: int) -> None:
        sound = container.streams.audio[0]
        self.samplerate = int(sound.codec_context.sample_rate)
        self.channels = int(sound.codec_context.channels)
        self.frames = frames
        self._path = path
        self._blocks = self._decode(container)
        self._left = frames
        self._rest: Wave = np.zeros((0, self.channels), np.float32)

    def read(self, frames: int, dtype: Literal["float32"] = "float32", always_2d: bool = False) -> Wave:
        """Return the next frames, (T, channels); where there is one channel (T,) unless ``always_2d``."""
        frames = min(frames, self._left)
        pieces, count = [self._rest], len(self._rest)
        while count < frames and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            count += len(block)
        joined = np.concatenate(pieces)
        wave, self._rest = joined[:frames], joined[frames:]
        self._left -= len(wave)
        return wave if always_2d or self.channels > 1 else wave[:, 0]

    def _decode(self, container: InputContainer) -> Iterator[Wave]:
        import av

        to_float = av.AudioResampler(format="fltp")
        for decoded in container.decode(container.streams.audio[0]):
            for frame in to_float.resample(decoded):
                wave = np.asarray(frame.to_ndarray(), np.float32).T
                if wave.shape[1] != self.channels:
                    change = f"goes from {self.channels} to {wave.shape[1]} channels; convert it first"
                    raise IdemvoxError(f"cannot read {self._path}: {change}")
                yield wave


@contextmanager
def open_mp4(path: Path) -> Iterator[Mp4File]:
    """Open the first sound track of a file.

    Raises:
        IdemvoxError: PyAV is not installed, no sound in the file, or it cannot be decoded.
    """
    try:
        import av
    except ImportError as error:
        needs = f"{path.suffix} files need PyAV: pip install 'idemvox[m4a]'"
        raise IdemvoxError(f"cannot read {path}: {needs}") from error
    try:
        with path.open("rb") as file:
            frames = _length(path, file)
            file.seek(0)
            with av.open(file, "r", options=DEMUXERS, metadata_errors="replace") as container:
                yield Mp4File(path, container, frames)
    except av.FFmpegError as error:
        raise IdemvoxError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def _length(path: Path, file: BinaryIO) -> int:
    """Frames that the header promises, or that the packets hold where it says nothing (.aac, fragments)."""
    import av

    with av.open(file, "r", options=DEMUXERS, metadata_errors="replace") as container:
        sound = next(iter(container.streams.audio), None)
        if sound is None or sound.codec_context is None:
            raise IdemvoxError(f"cannot read {path}: no sound in it, or of a kind that PyAV does not know")
        duration = sound.duration if "mp4" in container.format.name else None
        if not duration:
            duration = sum(int(packet.duration or 0) for packet in container.demux(sound))
        return round(duration * (sound.time_base or 0) * sound.codec_context.sample_rate)
