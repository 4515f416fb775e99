"""Augmentation of whole batches on the device: reverberation, then noise, music or babble, then a telephone.

What befalls a sample is drawn from its own seed, so it does not depend on the batch that it is in, and two
views of an utterance never share a draw unless a framework asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from idemvox.audio.banks import Bank, coloured_noises
from idemvox.audio.rooms import room_bank
from idemvox.audio.telephone import through_telephone
from idemvox.draws import uniform
from idemvox.errors import IdemvoxError, unknown_name

__all__ = ["POLICIES", "SNR", "Augmenter", "Draws", "Policy", "PolicyName"]

_KEPT = 1 << 26  # numbers of transfer functions kept: 512 MiB
_SILENT = 1e-12  # power below which noise counts as silence
_ROWS = 8  # samples that are worked on at a time on a CPU: they stay in its cache

PolicyName = Literal[
    "none", "noise", "reverb", "always", "all", "aat-1", "aat-2", "aat-3", "voxceleb_trainer"
]

SNR: Mapping[str, tuple[float, float]] = {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
"""Signal-to-noise ratios in dB, uniform, by kind: those of the VoxCeleb recipes for MUSAN."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a sample gets what.

    Attributes:
        shares: probabilities of nothing, noise alone, a room alone, and a room and then noise.
        babble: fewest and most clips of ``speech`` that are summed; of other kinds it is always one.
        room_gain: range of a room's level g, uniform, for 10 ** (g / 10) in amplitude; noise follows the
            level, so only the front end's floor tells the difference.
    """

    shares: tuple[float, float, float, float]
    babble: tuple[int, int] = (3, 7)
    room_gain: tuple[float, float] = (0.0, 0.0)


POLICIES: Mapping[PolicyName, Policy] = {
    "none": Policy((1, 0, 0, 0)),
    "noise": Policy((0, 1, 0, 0)),
    "reverb": Policy((0, 0, 1, 0)),
    "always": Policy((0, 0, 0, 1)),
    "all": Policy((0.25, 0.25, 0.25, 0.25)),
    "aat-1": Policy((0, 1, 0, 0), (1, 1), (-7, 3)),
    "aat-2": Policy((0, 0.75, 0.25, 0), (1, 1), (-7, 3)),
    "aat-3": Policy((0, 0, 0, 1), (1, 1), (-7, 3)),
    "voxceleb_trainer": Policy((0.2, 0.6, 0.2, 0)),
}
"""By the names of the papers and their code: ``always`` is SimCLR's and SSPS's, ``all`` DINO's, ``aat-1`` to
``aat-3`` the augment types of AAT and CEL (their best is 3), ``voxceleb_trainer`` one of nothing, a room,
music, babble and noise, a fifth each."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What befalls each of B samples.

    Attributes:
        room: (B,) number in the room bank, -1 for none.
        room_gain: (B,) what the reverberated sample is multiplied by.
        kind: (B,) number of the kind of noise among the sorted kinds, -1 for none.
        count: (B,) clips that are summed.
        piece, offset: (B, most) the pieces of that kind's bank and where each clip begins.
        snr_db: (B,) ratio of the reverberated sample to the sum.
        telephone: (B,) whether it then goes through a telephone.
    """

    room: npt.NDArray[np.int64]
    room_gain: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    piece: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    snr_db: npt.NDArray[np.float64]
    telephone: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.room)


class Augmenter(nn.Module):
    """Reverberate and add noise to a batch, each sample by its own draw.

    Args:
        policy: a name in :data:`POLICIES`.
        noises: kind (``noise``, ``music``, ``speech``) -> bank; a kind is drawn uniformly.
        rooms: bank of room responses, each beginning with its direct path.
        babble: fewest and most clips of ``speech`` that are summed, instead of the policy's; the public SSPS
            code adds a single voice, (1, 1), where the VoxCeleb recipes sum (3, 7).
        telephone: share of samples that go through a telephone at the end.
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
            raise IdemvoxError(f"augmentation policy {policy!r} needs banks of noise and of rooms")
        self.noises = nn.ModuleDict(dict(noises))
        self.kinds: tuple[str, ...] = tuple(sorted(noises))
        self.rooms = rooms
        self.babble = babble or self.policy.babble
        self.telephone = telephone
        self._transfers: dict[tuple[int, torch.device], Tensor] = {}  # by length of the FFT
        self._workspaces: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    @classmethod
    def built_in(cls, policy: PolicyName, seed: int = 0, rooms: int = 100) -> Augmenter:
        """Make an augmenter without files: rooms by the image-source method and coloured noises."""
        return cls(policy, {"noise": Bank(coloured_noises(seed=seed))}, Bank(room_bank(rooms, seed)))

    def transform_length(self, samples: int, room: int) -> int:
        """Return the length of the FFT by which so many samples are reverberated in a room."""
        assert self.rooms is not None
        return self._lengths(samples, np.array([room])).item()

    def _lengths(self, samples: int, room: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return these (B,); rooms come in a few classes of length, so that many share a transform."""
        assert self.rooms is not None
        step = max(samples // 8, 1)
        classes, which = np.unique(-(-self.rooms.sizes[room] // step), return_inverse=True)
        return np.array([_fast_length(samples + step * int(c) - 1) for c in classes], np.int64)[which]

    @property
    def idle(self) -> bool:
        """Whether nothing ever befalls anybody."""
        return self.policy.shares[0] == 1 and not self.telephone

    def draw(self, seeds: npt.ArrayLike, samples: int) -> Draws:
        """Decide what befalls samples of this length: for each a function of its seed (B,) alone."""
        low, high = self.babble
        most = max(high, 1)
        u = uniform(seeds, 7 + 2 * most)  # (B, ...)
        which = np.searchsorted(np.cumsum(self.policy.shares)[:3], u[:, 0], side="right")  # 0 to 3
        noisy = (which == 1) | (which == 3)
        room = np.where(which >= 2, _below(u[:, 1], 0 if self.rooms is None else len(self.rooms)), -1)
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
            wave: in [-1, 1], or 16-bit samples as they are read.
            seeds: what is drawn follows from these alone.

        Returns:
            (B, T) float32, without a gradient, ``wave`` itself if nothing can befall it.
        """
        scale = 1.0 if wave.is_floating_point() else 1 / 32768
        if self.idle:
            return wave if scale == 1 else wave * scale
        draws = self.draw(seeds, wave.shape[1])
        out = torch.empty(wave.shape, device=wave.device)
        dry = np.flatnonzero(draws.room < 0)
        for rows in self._split(dry, wave.device):
            out[rows] = wave[rows] * scale
            self._add_noise(out, rows, draws)
        wet = np.flatnonzero(draws.room >= 0)
        sizes = self._lengths(wave.shape[1], draws.room[wet]) if len(wet) else wet
        for size in np.unique(sizes).tolist():
            for rows in self._split(wet[sizes == size], wave.device):
                out[rows] = self._reverberate(wave[rows], scale, rows, draws, size)
                self._add_noise(out, rows, draws)
        rows = np.flatnonzero(draws.telephone)
        if len(rows):
            out[rows] = through_telephone(out[rows])
        return out

    @staticmethod
    def _split(rows: npt.NDArray[np.int64], device: torch.device) -> list[npt.NDArray[np.int64]]:
        """Return the rows in parts that are worked on together."""
        if not len(rows):
            return []
        return np.split(rows, range(_ROWS, len(rows), _ROWS)) if device.type == "cpu" else [rows]

    def _reverberate(
        self, wave: Tensor, scale: float, rows: npt.NDArray[np.int64], draws: Draws, size: int
    ) -> Tensor:
        """Return ``wave`` (b, T), the given rows of the batch, times ``scale``, as heard in their rooms."""
        samples = wave.shape[1]
        dry, spectrum, heard = (buffer[: len(wave)] for buffer in self._workspace(wave, size))
        torch.mul(wave, scale, out=dry[:, :samples])
        torch.fft.rfft(dry, out=spectrum)
        self._respond(spectrum, draws.room[rows], size)
        torch.fft.irfft(spectrum, size, out=heard)
        gain = draws.room_gain[rows]
        if (gain != 1).any():
            heard *= torch.from_numpy(gain).to(heard)[:, None]
        return heard[:, :samples]

    def _workspace(self, wave: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (R, size) zeros, (R, size // 2 + 1) complex numbers and (R, size), kept from call to call.

        Memory that is asked for anew each time costs a CPU more than the transforms.  The zeros stay zeros
        behind the first T samples, as T and the rooms say what ``size`` is.
        """
        key = wave.shape[1], size, wave.device
        if wave.device.type != "cpu":
            self._workspaces.clear()  # a GPU's allocator keeps memory by itself
        kept = self._workspaces.get(key)
        if kept is None or len(kept[0]) < len(wave):
            place, rows = wave.device, len(wave)
            kept = self._workspaces[key] = (
                torch.zeros(rows, size, device=place),
                torch.empty(rows, size // 2 + 1, dtype=torch.complex64, device=place),
                torch.empty(rows, size, device=place),
            )
        return kept

    def _respond(self, spectrum: Tensor, room: npt.NDArray[np.int64], size: int) -> None:
        """Multiply spectra by their rooms' transfer functions of energy 1; a small bank's are kept."""
        assert self.rooms is not None
        key = size, spectrum.device
        if key not in self._transfers:
            kept = sum(transfer.numel() for transfer in self._transfers.values())
            if kept + len(self.rooms) * spectrum.shape[1] > _KEPT:
                spectrum *= self._transfer(room, size)
                return
            self._transfers[key] = self._transfer(np.arange(len(self.rooms)), size)
        if spectrum.device.type == "cpu":  # row by row, without a copy of the transfer functions
            for row, number in zip(spectrum, room.tolist(), strict=True):
                row *= self._transfers[key][number]
        else:
            spectrum *= self._transfers[key][torch.from_numpy(room).to(spectrum.device)]

    def _transfer(self, room: npt.NDArray[np.int64], size: int) -> Tensor:
        assert self.rooms is not None
        response = self.rooms.take(room, np.zeros_like(room), int(self.rooms.sizes.max()), wrap=False)
        transfer: Tensor = torch.fft.rfft(response / response.square().sum(1, keepdim=True).sqrt(), size)
        return transfer

    def _add_noise(self, wave: Tensor, rows: npt.NDArray[np.int64], draws: Draws) -> None:
        """Add to these rows of the batch, in place, what was drawn for them."""
        rows = rows[draws.kind[rows] >= 0]
        if wave.device.type == "cpu":  # row by row: what a row needs stays in the cache
            for n in rows.tolist():
                self._add_noise_to(wave[n].numpy(), draws, n)
            return
        for number, name in enumerate(self.kinds):
            some = rows[draws.kind[rows] == number]
            if not len(some):
                continue
            used = np.arange(draws.piece.shape[1]) < draws.count[some, None]  # (b, most)
            clips = self._bank(name).take(draws.piece[some][used], draws.offset[some][used], wave.shape[1])
            whose = torch.from_numpy(np.nonzero(used)[0]).to(wave.device)
            noise = torch.zeros(len(some), wave.shape[1], device=wave.device).index_add_(0, whose, clips)
            clean = wave[some]
            snr = torch.from_numpy(draws.snr_db[some]).to(clean)
            ratio = _energy(clean) / (_energy(noise).clamp_min(_SILENT * wave.shape[1]) * 10 ** (snr / 10))
            wave[some] = torch.addcmul(clean, noise, ratio.sqrt()[:, None])

    def _add_noise_to(self, wave: npt.NDArray[np.float32], draws: Draws, n: int) -> None:
        """Add to one row, (T,), what was drawn for it."""
        bank = self._bank(self.kinds[draws.kind[n]])
        noise = bank.cut(int(draws.piece[n, 0]), int(draws.offset[n, 0]), len(wave))
        for clip in range(1, int(draws.count[n])):
            noise += bank.cut(int(draws.piece[n, clip]), int(draws.offset[n, clip]), len(wave))
        power = max(float(noise @ noise), _SILENT * len(wave)) * 10 ** (draws.snr_db[n] / 10)
        noise *= np.float32(np.sqrt(float(wave @ wave) / power))
        wave += noise


def _energy(wave: Tensor) -> Tensor:
    energy: Tensor = torch.linalg.vecdot(wave, wave)
    return energy


def _below(u: npt.NDArray[np.float64], limit: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Turn numbers from [0, 1) into whole numbers from [0, limit)."""
    numbers: npt.NDArray[np.int64] = np.floor(u * np.asarray(limit)).astype(np.int64)
    return numbers


def _between(u: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    return low + u * (high - low)


@lru_cache(maxsize=256)
def _fast_length(samples: int) -> int:
    """Return the next multiple of 8 whose factors are 2, 3 and 5, which FFTs like."""
    most = 2 * samples + 8
    lengths: list[int] = [8 * 2**a * 3**b * 5**c for a in range(20) for b in range(12) for c in range(9)]
    return min(length for length in lengths if samples <= length <= most)
