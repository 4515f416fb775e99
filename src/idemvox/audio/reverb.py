"""Reverberate many samples at once: FFT convolution with the responses of a bank of rooms."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from idemvox.arrays import Numbers
from idemvox.audio.banks import Bank
from idemvox.devices import to_device

__all__ = ["Reverb"]

_KEPT = 1 << 26  # complex numbers of cached transfer functions: 512 MiB
_CLASSES = 16  # room lengths are rounded up to 1/16 of a sample, so that many share a transform length


class Reverb(nn.Module):
    """Reverberates samples with room responses.

    Args:
        rooms: responses, each starting at its direct path. Each is scaled to an energy of 1.
    """

    def __init__(self, rooms: Bank) -> None:
        super().__init__()
        self.rooms = rooms
        self._lengths: dict[int, Numbers] = {}
        self._transfers: dict[tuple[int, int, float, torch.device], tuple[Numbers, Tensor]] = {}
        self._spaces: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self.rooms)

    def transform_lengths(self, samples: int, room: Numbers) -> Numbers:
        """Return the FFT lengths (B,) for reverberating this many samples in rooms (B,).

        On a CPU, lengths that fit the rooms save arithmetic; on a GPU, one length for all saves launches.
        """
        lengths = self._all_lengths(samples)
        return lengths[room] if self._fitting else np.full(len(room), lengths.max())

    @property
    def _fitting(self) -> bool:
        """Whether transform lengths fit the rooms, rather than one length for all."""
        return self.rooms.audio.device.type == "cpu"

    def _all_lengths(self, samples: int) -> Numbers:
        """Return the fitting FFT lengths of all rooms."""
        if samples not in self._lengths:
            step = max(samples // _CLASSES, 1)
            ends = samples + step * -(-self.rooms.sizes // step) - 1
            self._lengths[samples] = np.array([_fast_length(end) for end in ends.tolist()], np.int64)
        return self._lengths[samples]

    def forward(self, wave: Tensor, rows: Numbers, room: Numbers, size: int, scale: float = 1.0) -> Tensor:
        """Reverberate some rows of a batch.

        Args:
            wave: (B, T) samples.
            rows: (b,) which rows.
            room: (b,) indices of rooms whose transform length is ``size``.
            scale: factor for the samples.

        Returns:
            (b, T) float32.
        """
        samples = wave.shape[1]
        padded = self._padded(wave, len(rows), size)
        if wave.device.type == "cpu":
            for row, number in zip(padded.numpy(), rows.tolist(), strict=True):
                row[:samples] = wave[number].numpy()
        else:
            padded[:, :samples] = wave.index_select(0, to_device(rows, wave.device))
        spectrum = torch.fft.rfft(padded)  # with out= it would be copied
        self._respond(spectrum, samples, room, size, scale)
        heard: Tensor = torch.fft.irfft(spectrum, size)
        return heard[:, :samples]

    def _padded(self, wave: Tensor, rows: int, size: int) -> Tensor:
        """Return (rows, size), zero after the first T samples; on a CPU the memory is kept between calls."""
        if wave.device.type != "cpu":
            return torch.zeros(rows, size, device=wave.device)
        key = wave.shape[1], size
        if key not in self._spaces or len(self._spaces[key]) < rows:
            self._spaces[key] = torch.zeros(rows, size)
        return self._spaces[key][:rows]

    def _respond(self, spectrum: Tensor, samples: int, room: Numbers, size: int, scale: float) -> None:
        """Multiply spectra by their rooms' transfer functions; those of a small bank are cached."""
        key = samples, size, scale, spectrum.device
        if key not in self._transfers:
            rooms = (
                np.flatnonzero(self._all_lengths(samples) == size)
                if self._fitting
                else np.arange(len(self.rooms))
            )
            kept = sum(transfers.numel() for _, transfers in self._transfers.values())
            if kept + len(rooms) * spectrum.shape[1] > _KEPT:
                spectrum *= self._transfer(room, size, scale)
                return
            place = np.zeros(len(self.rooms), np.int64)
            place[rooms] = np.arange(len(rooms))
            self._transfers[key] = place, self._transfer(rooms, size, scale)
        place, transfers = self._transfers[key]
        if spectrum.device.type == "cpu":  # row by row, without a copy of the transfer functions
            every = transfers.numpy()
            for row, number in zip(spectrum.numpy(), place[room].tolist(), strict=True):
                row *= every[number]
        else:
            spectrum *= transfers.index_select(0, to_device(place[room], spectrum.device))

    def _transfer(self, room: Numbers, size: int, scale: float) -> Tensor:
        response = self.rooms.take(room, np.zeros_like(room), int(self.rooms.sizes[room].max()), wrap=False)
        level = scale / torch.linalg.vector_norm(response, dim=1, keepdim=True)
        transfer: Tensor = torch.fft.rfft(response * level, size)
        return transfer


@lru_cache(maxsize=256)
def _fast_length(samples: int) -> int:
    """Return the next multiple of 32 without a prime factor above 11: a fast FFT length."""
    length = -(-samples // 32) * 32
    while not _smooth(length):
        length += 32
    return length


def _smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7, 11):
        while number % prime == 0:
            number //= prime
    return number == 1
