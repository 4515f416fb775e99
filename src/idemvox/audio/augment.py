"""Augment whole batches on the device: reverberation, then noise, music or babble, then a telephone.

Each sample's augmentation is drawn from its own seed, so it does not depend on the rest of the batch. Two
views of an utterance never share a draw unless a framework asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from idemvox.arrays import Numbers
from idemvox.audio.banks import Bank, coloured_noises
from idemvox.audio.memory import empty, to_wave
from idemvox.audio.policies import POLICIES, SNR, Draws, PolicyName
from idemvox.audio.read import FULL_SCALE
from idemvox.audio.reverb import Reverb
from idemvox.audio.rooms import room_bank
from idemvox.audio.telephone import through_telephone
from idemvox.devices import to_device
from idemvox.draws import uniform
from idemvox.errors import RecipeError, unknown_name

__all__ = ["Augmenter"]


_SILENT = 1e-12  # power below which noise counts as silence
_ROWS = 64  # samples a CPU transforms together: setting up one FFT length costs as much as two transforms


class Augmenter(nn.Module):
    """Add reverberation and noise to a batch; each sample has its own draw.

    Args:
        policy: a name in :data:`POLICIES`.
        noises: kind (``noise``, ``music``, ``speech``) -> bank; a kind is drawn uniformly.
        rooms: bank of room responses, each starting at its direct path.
        babble: fewest and most clips of ``speech`` to sum, instead of the policy's. The public SSPS code
            adds a single voice, (1, 1); the VoxCeleb recipes sum (3, 7).
        telephone: fraction of samples that go through a telephone at the end.
    """

    def __init__(
        self,
        policy: PolicyName,
        noises: Mapping[str, Bank],
        rooms: Bank | None,
        babble: tuple[int, int] | None = None,
        telephone: float = 0.0,
    ) -> None:
        super().__init__()
        if policy not in POLICIES:
            raise unknown_name("augment.policy", policy, get_args(PolicyName))
        self.policy = POLICIES[policy]
        _, noise, reverb, both = self.policy.shares
        if (noise + both and not noises) or (reverb + both and rooms is None):
            raise RecipeError(f"augmentation policy {policy!r} needs banks of noise and of rooms")
        self.noises = nn.ModuleDict(dict(noises))
        self.kinds: tuple[str, ...] = tuple(sorted(noises))
        self.reverb = None if rooms is None else Reverb(rooms)
        self.babble = babble or self.policy.babble
        self.telephone = telephone

    @classmethod
    def built_in(cls, policy: PolicyName, seed: int = 0, rooms: int = 100) -> Augmenter:
        """Build an augmenter that needs no files: rooms by the image-source method, and coloured noises."""
        return cls(policy, {"noise": Bank(coloured_noises(seed=seed))}, Bank(room_bank(rooms, seed)))

    @property
    def idle(self) -> bool:
        """True if no augmentation is configured."""
        return self.policy.shares[0] == 1 and not self.telephone

    def draw(self, seeds: npt.ArrayLike, samples: int) -> Draws:
        """Draw the augmentation of samples of this length; each depends only on its seed, of (B,)."""
        low, high = self.babble
        most = max(high, 1)
        u = uniform(seeds, 7 + 2 * most)  # (B, ...)
        which = np.searchsorted(np.cumsum(self.policy.shares)[:3], u[:, 0], side="right")  # 0 to 3
        noisy = (which == 1) | (which == 3)
        room = np.where(which >= 2, _below(u[:, 1], 0 if self.reverb is None else len(self.reverb)), -1)
        gain = 10 ** (np.where(which >= 2, _between(u[:, 2], *self.policy.room_gain), 0.0) / 10)
        kind = np.where(noisy, _below(u[:, 3], len(self.kinds)), -1)
        count = noisy.astype(np.int64)
        snr = np.zeros(len(u))
        piece, offset = (np.zeros((len(u), most), np.int64) for _ in range(2))
        for number, name in enumerate(self.kinds):
            rows = np.flatnonzero(kind == number)
            sizes = self._bank(name).sizes
            if name == "speech":
                count[rows] = low + _below(u[rows, 4], high - low + 1)
            snr[rows] = _between(u[rows, 5], *SNR[name])
            piece[rows] = _below(u[rows, 7 : 7 + most], len(sizes))
            offset[rows] = _below(u[rows, 7 + most :], np.maximum(sizes[piece[rows]] - samples, 0) + 1)
        return Draws(room, gain, kind, count, piece, offset, snr, u[:, 6] < self.telephone)

    def _bank(self, kind: str) -> Bank:
        bank = self.noises[kind]
        assert isinstance(bank, Bank)
        return bank

    @torch.no_grad()
    def forward(self, wave: Tensor, seeds: npt.ArrayLike) -> Tensor:
        """Augment (B, T) samples by seeds (B,).

        Args:
            wave: floats in [-1, 1], or 16-bit samples.
            seeds: they alone decide what is drawn.

        Returns:
            (B, T) float32, without a gradient. If no augmentation is configured, a float ``wave`` itself.
        """
        scale = 1.0 if wave.is_floating_point() else 1 / FULL_SCALE
        if self.idle:
            return to_wave(wave)
        wave = wave.detach()
        draws = self.draw(seeds, wave.shape[1])
        out = (self._on_cpu if wave.device.type == "cpu" else self._on_device)(wave, draws, scale)
        rows = np.flatnonzero(draws.telephone)
        if len(rows):
            place = to_device(rows, out.device)
            out.index_copy_(0, place, through_telephone(out.index_select(0, place)))
        return out

    def _on_cpu(self, wave: Tensor, draws: Draws, scale: float) -> Tensor:
        """Augment (B, T) samples a few rows at a time, so that they stay in the cache."""
        out = empty(wave.shape, torch.float32, wave.device)
        for rows, heard in self._heard(wave, draws, scale):
            gain = draws.room_gain[rows]
            if (gain != 1).any():
                heard *= torch.from_numpy(gain).to(heard)[:, None]
            self._mix(heard, rows, draws, out)
        return out

    def _on_device(self, wave: Tensor, draws: Draws, scale: float) -> Tensor:
        """Augment (B, T) samples in few kernel launches, without making the host wait."""
        out = wave * scale
        wet = np.flatnonzero(draws.room >= 0)
        if self.reverb is not None and len(wet):
            size = int(self.reverb.transform_lengths(wave.shape[1], draws.room[wet])[0])
            heard = self.reverb(wave, wet, draws.room[wet], size, scale)
            gain = to_device(draws.room_gain[wet].astype(np.float32), wave.device)
            out.index_copy_(0, to_device(wet, wave.device), heard * gain[:, None])
        for number, name in enumerate(self.kinds):
            rows = np.flatnonzero(draws.kind == number)
            if len(rows):
                self._add_noise(out, rows, self._bank(name), draws)
        return out

    def _add_noise(self, out: Tensor, rows: Numbers, bank: Bank, draws: Draws) -> None:
        """Add to these rows of ``out`` (B, T) the clips that were drawn for them from a bank."""
        most = int(draws.count[rows].max())
        used = np.arange(most) < draws.count[rows, None]  # (b, most)
        clips = bank.take(draws.piece[rows, :most].ravel(), draws.offset[rows, :most].ravel(), out.shape[1])
        clips = clips.view(len(rows), most, -1)
        if most > 1:
            clips *= to_device(used, out.device)[:, :, None]
        noise, place = clips.sum(1), to_device(rows, out.device)
        clean = out.index_select(0, place)
        snr = to_device(draws.snr_db[rows].astype(np.float32), out.device)
        ratio = _energy(clean) / (_energy(noise).clamp_min(_SILENT * clean.shape[1]) * 10 ** (snr / 10))
        out.index_copy_(0, place, torch.addcmul(clean, noise, ratio.sqrt()[:, None]))

    def _heard(self, wave: Tensor, draws: Draws, scale: float) -> Iterator[tuple[Numbers, Tensor]]:
        """Yield row numbers (b,) and their samples (b, T), scaled by ``scale`` and reverberated."""
        for rows in _parts(np.flatnonzero(draws.room < 0), _ROWS):
            yield rows, wave[rows] * scale
        if self.reverb is None:
            return
        wet = np.flatnonzero(draws.room >= 0)
        sizes = self.reverb.transform_lengths(wave.shape[1], draws.room[wet])
        for size in np.unique(sizes).tolist():
            for rows in _parts(wet[sizes == size], _ROWS):
                yield rows, self.reverb(wave, rows, draws.room[rows], size, scale)

    def _mix(self, heard: Tensor, rows: Numbers, draws: Draws, out: Tensor) -> None:
        """Write reverberated samples (b, T) to these rows of ``out``, with the noise drawn for them.

        Works row by row, so that a row's data stays in the cache.
        """
        noise, clip = np.empty((2, heard.shape[1]), np.float32)
        added, waves = torch.from_numpy(noise), heard.numpy()
        drawn = (draws.kind, draws.count, draws.piece, draws.offset, draws.snr_db)
        for row, n, kind, count, piece, offset, snr in zip(
            range(len(rows)), rows.tolist(), *(each[rows].tolist() for each in drawn), strict=True
        ):
            if kind < 0:
                out[n] = heard[row]
                continue
            bank = self._bank(self.kinds[kind])
            gain = bank.cut(piece[0], offset[0], noise)
            for other in range(1, count):
                noise += np.multiply(clip, bank.cut(piece[other], offset[other], clip) / gain, out=clip)
            power = max(float(gain) ** 2 * float(noise @ noise), _SILENT * len(noise)) * 10 ** (snr / 10)
            level = float(gain) * math.sqrt(float(waves[row] @ waves[row]) / power)
            torch.add(heard[row], added, alpha=level, out=out[n])


def _parts(rows: Numbers, most: int) -> list[Numbers]:
    """Split the rows into parts of at most ``most``."""
    return np.split(rows, range(most, len(rows), most)) if len(rows) else []


def _energy(wave: Tensor) -> Tensor:
    energy: Tensor = torch.linalg.vecdot(wave, wave)
    return energy


def _below(u: npt.NDArray[np.float64], limit: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn numbers from [0, 1) into integers from [0, limit)."""
    numbers: npt.NDArray[np.int64] = np.floor(u * np.asarray(limit)).astype(np.int64)
    return numbers


def _between(u: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    return low + u * (high - low)
