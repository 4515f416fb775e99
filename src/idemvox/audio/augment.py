"""Augmentation of whole batches on the device: reverberation, then noise, music or babble.

What befalls a sample is drawn from its own seed, so it does not depend on the batch that it is in, and two
views of an utterance never share a draw.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.audio.rooms import room_bank
from idemvox.errors import IdemvoxError

__all__ = ["SNR", "Augmenter", "Bank", "Draw", "coloured_noises", "load_bank", "load_rooms"]

_KEPT = 1 << 25  # numbers of transfer functions kept: 256 MiB

_LOG = logging.getLogger(__name__)

Policy = Literal["none", "noise", "reverb", "always", "all"]

SNR: Mapping[str, tuple[float, float]] = {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
"""Signal-to-noise ratios in dB, uniform, by kind: those of the VoxCeleb recipes for MUSAN."""

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})


class Bank(nn.Module):
    """Pieces of audio end to end in one int16 tensor that moves to the device with its module.

    Args:
        pieces: waveforms in [-1, 1] at 16 kHz; each is scaled to its own peak, as only its shape matters.
    """

    audio: Tensor
    starts: Tensor
    lengths: Tensor
    peaks: Tensor
    sizes: tuple[int, ...]
    """The lengths once more, to be read without waiting for the device."""

    def __init__(self, pieces: Sequence[npt.NDArray[np.float32]]) -> None:
        super().__init__()
        pieces = [p for p in pieces if len(p) and np.abs(p).max() > 0]
        if not pieces:
            raise IdemvoxError("an augmentation bank has no audible audio in it; give another folder")
        peaks = np.array([np.abs(p).max() for p in pieces], dtype=np.float32)
        ints = [np.round(p / peak * 32767).astype(np.int16) for p, peak in zip(pieces, peaks, strict=True)]
        lengths = np.array([len(p) for p in pieces])
        self.sizes = tuple(lengths.tolist())
        self.register_buffer("audio", torch.from_numpy(np.concatenate(ints)), persistent=False)
        self.register_buffer("lengths", torch.from_numpy(lengths), persistent=False)
        self.register_buffer("starts", torch.from_numpy(np.cumsum(lengths) - lengths), persistent=False)
        self.register_buffer("peaks", torch.from_numpy(peaks), persistent=False)

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, piece: Tensor, offset: Tensor, samples: int, wrap: bool = True) -> Tensor:
        """Cut (B, samples) from the pieces (B,) at ``offset`` (B,); past the end wrap round, or zeros."""
        if self.audio.device.type == "cpu":  # slices cost a tenth of a gather there
            cut = torch.stack(
                [
                    self._slice(p, o, samples, wrap)
                    for p, o in zip(piece.tolist(), offset.tolist(), strict=True)
                ]
            )
            return cut.float().mul_(self.peaks[piece][:, None] / 32767)
        length = self.lengths[piece][:, None]
        at = offset[:, None] + torch.arange(samples, device=piece.device)  # (B, T)
        cut = self.audio[self.starts[piece][:, None] + at % length].float()
        if not wrap:
            cut = cut.masked_fill(at >= length, 0)
        return cut * (self.peaks[piece][:, None] / 32767)

    def _slice(self, piece: int, offset: int, samples: int, wrap: bool) -> Tensor:
        start, length = int(self.starts[piece]), int(self.lengths[piece])
        if offset + samples <= length:
            return self.audio[start + offset : start + offset + samples]
        whole = self.audio[start : start + length]
        if not wrap:
            return functional.pad(whole[offset:], (0, samples - max(length - offset, 0)))
        return whole.roll(-(offset % length)).repeat(-(-samples // length))[:samples]


def load_bank(
    folder: Path, piece_seconds: float = 5.0, max_hours: float = 8.0
) -> list[npt.NDArray[np.float32]]:
    """Read every audio file below ``folder`` in pieces of at most ``piece_seconds``, up to ``max_hours``.

    A file that cannot be decoded is used as far as it can, with a warning.
    """
    pieces: list[npt.NDArray[np.float32]] = []
    size, most = int(piece_seconds * SAMPLE_RATE), int(max_hours * 3600 * SAMPLE_RATE)
    for file in _files(folder):
        pieces += _pieces(file, size)
        if sum(map(len, pieces)) > most:
            break
    if not pieces:
        raise IdemvoxError(f"no audio ({', '.join(sorted(SUFFIXES))}) below {folder}")
    return pieces


def load_rooms(folder: Path, seconds: float = 1.0) -> list[npt.NDArray[np.float32]]:
    """Read every room response below ``folder``: ``seconds`` of it from the direct path, its peak, on."""
    rooms = [piece for file in _files(folder) for piece in _pieces(file, 10 * SAMPLE_RATE)[:1]]
    if not rooms:
        raise IdemvoxError(f"no audio ({', '.join(sorted(SUFFIXES))}) below {folder}")
    return [room[int(np.abs(room).argmax()) :][: int(seconds * SAMPLE_RATE)] for room in rooms]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise IdemvoxError(f"augmentation folder {folder} does not exist")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)


def _pieces(file: Path, size: int) -> list[npt.NDArray[np.float32]]:
    pieces: list[npt.NDArray[np.float32]] = []
    try:
        while not pieces or len(pieces[-1]) == size:
            pieces.append(read(file, size * len(pieces), size))
    except IdemvoxError as error:
        _LOG.warning("using the first %.0f s: %s", size * len(pieces) / SAMPLE_RATE, error)
    return [p for p in pieces if len(p) >= SAMPLE_RATE // 4 or 0 < len(p) == len(pieces[0])]


def coloured_noises(count: int = 60, seed: int = 0, seconds: float = 5.0) -> list[npt.NDArray[np.float32]]:
    """Make stationary and slowly swelling noises with spectral slopes from -12 to +3 dB per octave."""
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


@dataclass(frozen=True, slots=True)
class Draw:
    """What befalls one sample.

    Attributes:
        room: number in the room bank, -1 for none.
        kind: of the noise, ``None`` for none.
        clips: (piece, offset) of each clip that is summed.
        snr_db: of the reverberated sample to the sum.
    """

    room: int
    kind: str | None
    clips: tuple[tuple[int, int], ...]
    snr_db: float


class Augmenter(nn.Module):
    """Reverberate and add noise to a batch, each sample by its own draw.

    Policies by the papers' names: ``always`` (a room, then one kind of noise: SimCLR and SSPS), ``all``
    (nothing | noise | reverb | both, a quarter each: DINO), ``noise``, ``reverb``, ``none``.

    Args:
        policy: one of these.
        noises: kind (``noise``, ``music``, ``speech``) -> bank; a kind is drawn uniformly.
        rooms: bank of room responses, each beginning with its direct path.
        babble: fewest and most clips of ``speech`` that are summed: (3, 7) as in the VoxCeleb recipes, where
            the public SSPS code adds a single voice, (1, 1).
    """

    def __init__(
        self, policy: Policy, noises: Mapping[str, Bank], rooms: Bank | None, babble: tuple[int, int] = (3, 7)
    ) -> None:
        super().__init__()
        if policy not in ("none", "noise", "reverb", "always", "all"):
            raise IdemvoxError(f"augment.policy is none, noise, reverb, always or all, not {policy!r}")
        if (policy in ("noise", "always", "all") and not noises) or (
            policy in ("reverb", "always", "all") and rooms is None
        ):
            raise IdemvoxError(f"augmentation policy {policy!r} needs banks of noise and of rooms")
        self.policy = policy
        self.noises = nn.ModuleDict(dict(noises))
        self.rooms = rooms
        self.babble = babble
        self._transfers: dict[tuple[int, torch.device], Tensor] = {}  # by length of the FFT

    @classmethod
    def built_in(cls, policy: Policy, seed: int = 0, rooms: int = 100) -> Augmenter:
        """Make an augmenter without files: rooms by the image-source method and coloured noises."""
        return cls(policy, {"noise": Bank(coloured_noises(seed=seed))}, Bank(room_bank(rooms, seed)))

    def draw(self, seed: int, samples: int) -> Draw:
        """Decide what befalls a sample of this length: a function of the seed alone."""
        rng = np.random.default_rng(seed)
        quarter = rng.integers(4)
        reverb = self.policy in ("reverb", "always") or (self.policy == "all" and quarter in (1, 3))
        noise = self.policy in ("noise", "always") or (self.policy == "all" and quarter in (2, 3))
        room = int(rng.integers(len(self.rooms))) if reverb and self.rooms is not None else -1
        if not noise:
            return Draw(room, None, (), 0.0)
        kind = str(rng.choice(sorted(self.noises)))
        bank = self._bank(kind)
        count = int(rng.integers(self.babble[0], self.babble[1] + 1)) if kind == "speech" else 1
        pieces = rng.integers(len(bank), size=count)
        spare = [max(bank.sizes[p] - samples, 0) for p in pieces]
        clips = tuple((int(p), int(rng.integers(s + 1))) for p, s in zip(pieces, spare, strict=True))
        return Draw(room, kind, clips, float(rng.uniform(*SNR[kind])))

    def _bank(self, kind: str) -> Bank:
        bank = self.noises[kind]
        assert isinstance(bank, Bank)
        return bank

    @torch.no_grad()
    def forward(self, wave: Tensor, seeds: Sequence[int]) -> Tensor:
        """Augment (B, T) samples by B seeds; the result has the same shape and no gradient."""
        if self.policy == "none":
            return wave
        draws = [self.draw(seed, wave.shape[1]) for seed in seeds]
        return self._add_noise(self._reverberate(wave, draws), draws)

    def _reverberate(self, wave: Tensor, draws: Sequence[Draw]) -> Tensor:
        rows = [i for i, d in enumerate(draws) if d.room >= 0]
        if not rows or self.rooms is None:
            return wave
        room = torch.tensor([draws[i].room for i in rows], device=wave.device)
        size = _fast_length(wave.shape[1] + max(self.rooms.sizes) - 1)
        product = torch.fft.rfft(wave[rows], size) * self._transfer(room, size)
        out = wave.clone()
        out[rows] = torch.fft.irfft(product, size)[:, : wave.shape[1]]
        return out

    def _transfer(self, room: Tensor, size: int) -> Tensor:
        """Return the (B, size // 2 + 1) transfer functions of rooms, energy 1; a small bank's are kept."""
        assert self.rooms is not None
        if len(self.rooms) * size > _KEPT:
            return self._compute_transfer(room, size)
        key = size, room.device
        if key not in self._transfers:
            every = torch.arange(len(self.rooms), device=room.device)
            self._transfers[key] = self._compute_transfer(every, size)
        return self._transfers[key][room]

    def _compute_transfer(self, room: Tensor, size: int) -> Tensor:
        assert self.rooms is not None
        response = self.rooms.take(room, torch.zeros_like(room), max(self.rooms.sizes), wrap=False)
        transfer: Tensor = torch.fft.rfft(response / response.square().sum(1, keepdim=True).sqrt(), size)
        return transfer

    def _add_noise(self, wave: Tensor, draws: Sequence[Draw]) -> Tensor:
        noise = torch.zeros_like(wave)
        for kind in sorted({d.kind for d in draws if d.kind is not None}):
            cuts = [(i, p, o) for i, d in enumerate(draws) if d.kind == kind for p, o in d.clips]
            row, piece, offset = torch.tensor(cuts, device=wave.device).T
            noise.index_add_(0, row, self._bank(kind).take(piece, offset, wave.shape[1]))
        snr = torch.tensor([d.snr_db for d in draws], device=wave.device)
        noisy = torch.tensor([d.kind is not None for d in draws], device=wave.device)
        ratio = wave.square().mean(1) / (noise.square().mean(1).clamp_min(1e-12) * 10 ** (snr / 10))
        return wave + noise * (ratio.sqrt() * noisy)[:, None]


def _fast_length(samples: int) -> int:
    """Return the next length whose factors are 2, 3 and 5, which FFTs like."""
    best = 1 << (samples - 1).bit_length()
    for five in (1, 5, 25, 125):
        for three in (1, 3, 9, 27):
            odd = five * three
            if odd < samples:
                best = min(best, odd << (-(-samples // odd) - 1).bit_length())
    return best
