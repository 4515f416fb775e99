"""Banks of noise, music, speech and rooms: short pieces of audio, kept on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from idemvox.arrays import Pcm
from idemvox.audio.decoders import SUFFIXES
from idemvox.audio.read import FULL_SCALE, SAMPLE_RATE, from_pcm, read_pcm
from idemvox.devices import to_device
from idemvox.errors import AudioError, RecipeError

__all__ = ["Bank", "Room", "coloured_noises", "load_bank", "load_rooms", "trim_room"]

_LOG = logging.getLogger(__name__)

Room = npt.NDArray[np.float32]
_FAINT = 1e-6  # share of a room's energy: -60 dB


class Bank(nn.Module):
    """Pieces of audio, end to end in one int16 tensor that moves to the device with its module.

    Args:
        pieces: at 16 kHz: 16-bit samples, or waveforms in [-1, 1], each stored relative to its own peak.
            Silent pieces are left out.

    Raises:
        AudioError: all pieces are silent.
    """

    audio: Tensor
    starts: Tensor
    lengths: Tensor
    gains: Tensor
    """(N,) factor that turns 16-bit samples of each piece into a waveform."""
    sizes: npt.NDArray[np.int64]
    """The lengths again, on the host, to read them without waiting for the device."""

    def __init__(self, pieces: Sequence[npt.NDArray[np.float32] | Pcm]) -> None:
        super().__init__()
        pieces = [p for p in pieces if len(p) and p.any()]
        if not pieces:
            raise AudioError("an augmentation bank contains only silence; give another folder")
        self.sizes = np.array([len(p) for p in pieces], np.int64)
        audio = torch.empty(int(self.sizes.sum()), dtype=torch.int16)
        gains = np.full(len(pieces), 1 / FULL_SCALE, np.float32)
        starts = np.cumsum(self.sizes) - self.sizes
        for n, (piece, start) in enumerate(zip(pieces, starts, strict=True)):
            if piece.dtype != np.int16:
                peak = np.abs(piece).max()
                gains[n] = peak / 32767
                piece = np.rint(piece / gains[n]).astype(np.int16)
            audio[start : start + len(piece)] = torch.from_numpy(np.ascontiguousarray(piece))
        self._starts, self._gains = starts.tolist(), [np.float32(gain) for gain in gains]
        self.register_buffer("audio", audio, persistent=False)
        self.register_buffer("lengths", torch.from_numpy(self.sizes.copy()), persistent=False)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.register_buffer("gains", torch.from_numpy(gains), persistent=False)

    def __len__(self) -> int:
        return len(self.sizes)

    def take(
        self,
        piece: npt.NDArray[np.int64],
        offset: npt.NDArray[np.int64],
        samples: int,
        wrap: bool = True,
    ) -> Tensor:
        """Cut (B, samples) from pieces (B,) at ``offset`` (B,); past the end, wrap around or give zeros."""
        device = self.audio.device
        if device.type == "cpu":  # slices cost a tenth of a gather there
            rows = np.empty((len(piece), samples), np.float32)
            for row, p, o in zip(rows, piece.tolist(), offset.tolist(), strict=True):
                row *= self.cut(p, o, row, wrap)
            return torch.from_numpy(rows)
        where = to_device(np.stack([piece, offset]), device)
        length = self.lengths[where[0]][:, None]
        at = where[1][:, None] + torch.arange(samples, device=device)  # (B, T)
        cut = self.audio[self.starts[where[0]][:, None] + at % length].float()
        if not wrap:
            cut = cut.masked_fill(at >= length, 0)
        return cut.mul_(self.gains[where[0]][:, None])

    def cut(self, piece: int, offset: int, out: npt.NDArray[np.float32], wrap: bool = True) -> np.float32:
        """Cut one such row into ``out`` (samples,) from a bank on the CPU; return its gain."""
        audio, start, length = self.audio.numpy(), self._starts[piece], int(self.sizes[piece])
        piece_audio = audio[start : start + length]
        part = piece_audio[offset % length :][: len(out)]
        out[: len(part)] = part
        at = len(part)
        while wrap and at < len(out):
            part = piece_audio[: len(out) - at]
            out[at : at + len(part)] = part
            at += len(part)
        out[at:] = 0
        return self._gains[piece]


def load_bank(folder: Path, piece_seconds: float = 5.0, max_hours: float = 8.0, seed: int = 0) -> list[Pcm]:
    """Read audio files in ``folder`` as pieces of ``piece_seconds``, in random order, up to ``max_hours``.

    A file that fails to decode is used up to that point, with a warning.
    """
    files = _files(folder)
    pieces: list[Pcm] = []
    size, left = int(piece_seconds * SAMPLE_RATE), max_hours * 3600 * SAMPLE_RATE
    for number in np.random.default_rng([seed, 0xBA2C]).permutation(len(files)):
        found = _pieces(files[number], size)
        pieces += found
        left -= sum(map(len, found))
        if left < 0:
            break
    if not pieces:
        raise AudioError(f"no audio ({', '.join(SUFFIXES)}) in {folder} or its subfolders")
    return pieces


def load_rooms(folder: Path, seconds: float = 1.0) -> list[Room]:
    """Read every room response in ``folder`` and its subfolders, each trimmed by :func:`trim_room`."""
    rooms = [piece for file in _files(folder) for piece in _pieces(file, 10 * SAMPLE_RATE)[:1]]
    if not rooms:
        raise AudioError(f"no audio ({', '.join(SUFFIXES)}) in {folder} or its subfolders")
    return [trim_room(from_pcm(room), seconds) for room in rooms]


def trim_room(room: Room, seconds: float = 1.0) -> Room:
    """Trim a response to ``seconds`` from its peak (the direct path), without the last 1e-6 of energy."""
    room = room[int(np.abs(room).argmax()) :][: int(seconds * SAMPLE_RATE)]
    left = np.square(room[::-1], dtype=np.float64).cumsum()[::-1]  # energy from each sample on
    return room[: int((left > _FAINT * left[0]).sum())] if len(room) else room


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise RecipeError(f"augmentation folder {folder} does not exist")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def _pieces(file: Path, size: int) -> list[Pcm]:
    pieces: list[Pcm] = []
    try:
        while not pieces or len(pieces[-1]) == size:
            pieces.append(read_pcm(file, size * len(pieces), size))
    except AudioError as error:
        _LOG.warning("using only the first %.0f s of a file: %s", size * len(pieces) / SAMPLE_RATE, error)
    return [p for p in pieces if len(p) >= SAMPLE_RATE // 4 or 0 < len(p) == len(pieces[0])]


def coloured_noises(count: int = 60, seed: int = 0, seconds: float = 5.0) -> list[npt.NDArray[np.float32]]:
    """Make stationary and slowly varying noises with spectral slopes from -12 to +3 dB per octave."""
    rng = np.random.default_rng([seed, 0xC01])
    samples = int(seconds * SAMPLE_RATE)
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE), 30.0)
    time = np.arange(samples) / SAMPLE_RATE
    noises = []
    for _ in range(count):
        slope = rng.uniform(-12, 3)
        spectrum = np.fft.rfft(rng.standard_normal(samples)) * frequency ** (slope / 6.02)
        depth, rate, phase = rng.uniform(0, 0.8), rng.uniform(0.2, 4), rng.uniform(0, 2 * np.pi)
        wave = np.fft.irfft(spectrum, samples) * (1 + depth * np.sin(2 * np.pi * rate * time + phase))
        noises.append((wave / np.abs(wave).max() * 0.9).astype(np.float32))
    return noises
