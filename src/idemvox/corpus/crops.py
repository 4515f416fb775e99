"""Crops of a corpus: which part of which utterance a step sees, as a function of (seed, epoch, utterance)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError

__all__ = ["AudioSource", "Crop", "CropDataset", "FileSource", "Item", "Views", "collate", "draw_seed"]


@dataclass(frozen=True, slots=True)
class Crop:
    """How one named view is cut.

    Attributes:
        count: crops of each utterance.
        seconds: length of each; a shorter utterance is wrapped round.
        augment: whether the augmentation policy is applied; a reference view stays clean.
    """

    count: int
    seconds: float
    augment: bool = True

    @property
    def samples(self) -> int:
        """Length in 16-kHz samples."""
        return round(self.seconds * SAMPLE_RATE)


Views = dict[str, Crop]


class AudioSource(Protocol):
    """Where crops come from: files today, anything that can give a range of samples."""

    def __len__(self) -> int: ...

    def samples(self, index: int) -> int:
        """Length of an utterance in 16-kHz samples."""
        ...

    def read(self, index: int, start: int, samples: int) -> npt.NDArray[np.float32]:
        """Return at most ``samples`` samples from ``start``, mono, in [-1, 1]."""
        ...


class FileSource:
    """Reads crops from the files of a manifest, seeking instead of decoding whole files."""

    def __init__(self, manifest: Manifest) -> None:
        self._paths = [str(manifest.path(u)) for u in manifest]
        self._samples = np.array([int(u.seconds * SAMPLE_RATE) for u in manifest], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def samples(self, index: int) -> int:
        return int(self._samples[index])

    def read(self, index: int, start: int, samples: int) -> npt.NDArray[np.float32]:
        return read(self._paths[index], start, samples)


def draw_seed(*numbers: int) -> int:
    """Mix whole numbers such as (seed, epoch, utterance, view) into one 63-bit seed."""
    return int(np.random.SeedSequence([n & 0xFFFFFFFF for n in numbers]).generate_state(1, np.uint64)[0] >> 1)


@dataclass(frozen=True, slots=True)
class Item:
    """One utterance of a batch: its number, and name -> (n, T) crops."""

    index: int
    views: Mapping[str, Tensor]


class CropDataset(Dataset[Item]):
    """The views of each utterance in one epoch.

    The start of a crop depends on (seed, epoch, utterance, view, crop) alone: not on the order of reading,
    the number of workers or the batch.

    Args:
        source: the audio.
        views: what to cut.
        seed: of the run.
        partnered: names of the views that are cut from the utterance's partner where partners are set
            (supervised positive sampling).
    """

    def __init__(
        self,
        source: AudioSource,
        views: Views,
        seed: int,
        partnered: frozenset[str] = frozenset({"positive"}),
    ) -> None:
        self.source = source
        self.views = views
        self.seed = seed
        self.partnered = partnered
        self.epoch = 0
        self.without: frozenset[str] = frozenset()
        self.partners: npt.NDArray[np.int64] | None = None

    def set_epoch(
        self,
        epoch: int,
        partners: npt.NDArray[np.int64] | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """Choose the epoch.

        Args:
            epoch: from 0 on.
            partners: (N,) the utterance that stands in for each one's partnered views, ``None`` for itself.
            without: names of views that nobody looks at in this epoch.
        """
        self.epoch = epoch
        self.partners = partners
        self.without = without

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Item:
        return Item(
            index,
            {
                name: torch.from_numpy(np.stack([self._cut(index, name, v, n) for n in range(crop.count)]))
                for v, (name, crop) in enumerate(self.views.items())
                if name not in self.without
            },
        )

    def _cut(self, index: int, name: str, view: int, number: int) -> npt.NDArray[np.float32]:
        if self.partners is not None and name in self.partnered:
            index = int(self.partners[index])
        length, wanted = self.source.samples(index), self.views[name].samples
        rng = np.random.default_rng([self.seed, self.epoch, index, view, number])
        start = int(rng.integers(0, max(length - wanted, 0) + 1))
        wave = self.source.read(index, start, wanted)
        if len(wave) == 0:
            raise IdemvoxError(
                f"utterance {index} of the manifest gave no audio although it lists "
                f"{length / SAMPLE_RATE:.2f} s; its file has changed: run `idemvox prepare` again"
            )
        return np.resize(wave, wanted) if len(wave) < wanted else wave


def collate(items: list[Item]) -> tuple[Tensor, dict[str, Tensor]]:
    """Stack items into ids (B,) and name -> (B, n, T)."""
    ids = torch.tensor([item.index for item in items])
    return ids, {name: torch.stack([item.views[name] for item in items]) for name in items[0].views}
