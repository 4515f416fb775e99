"""From a manifest to augmented batches on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from idemvox.audio.augment import Augmenter, Bank, coloured_noises, load_bank, load_rooms
from idemvox.audio.read import SAMPLE_RATE
from idemvox.audio.rooms import room_bank
from idemvox.corpus.crops import AudioSource, CropDataset, FileSource, Views, collate, draw_seed
from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.frameworks.base import Batch
from idemvox.positives.base import Positives
from idemvox.recipe import Augment

__all__ = ["Batches", "build_augmenter"]

_BABBLE_CLIPS = 400


def build_augmenter(settings: Augment, source: AudioSource, seed: int) -> Augmenter:
    """Load the banks that a recipe names, or make the built-in ones; babble comes from the training audio."""
    if settings.policy == "none":
        return Augmenter("none", {}, None)
    noises = {"noise": Bank(load_bank(settings.noise) if settings.noise else coloured_noises(seed=seed))}
    if settings.music:
        noises["music"] = Bank(load_bank(settings.music))
    noises["speech"] = Bank(load_bank(settings.speech) if settings.speech else _excerpts(source, seed))
    rooms = load_rooms(settings.rooms) if settings.rooms else room_bank(settings.simulated_rooms, seed)
    return Augmenter(settings.policy, noises, Bank(rooms), settings.babble)


def _excerpts(source: AudioSource, seed: int) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Read up to 4 seconds of some training utterances, whoever speaks: what babble is made of."""
    rng = np.random.default_rng([seed, 0xBABB1E])
    some = rng.permutation(len(source))[:_BABBLE_CLIPS]
    return [source.read(int(i), 0, 4 * SAMPLE_RATE) for i in some]


class Batches:
    """The batches of each epoch: shuffled, cropped, moved to the device and augmented.

    The order of an epoch is a function of (seed, epoch); what befalls a crop, of (seed, epoch, utterance,
    view, crop).

    Args:
        manifest: training manifest; labels in it are not looked at.
        views: of the framework and the positive sampler.
        augmenter: already on the device.
        batch: utterances per step.
        labels: (N,) speaker numbers for a supervised framework, ``None`` for any other.
    """

    def __init__(
        self,
        manifest: Manifest,
        views: Views,
        augmenter: Augmenter,
        *,
        batch: int,
        seed: int,
        device: torch.device,
        workers: int,
        labels: Tensor | None = None,
    ) -> None:
        if len(manifest) < batch:
            raise IdemvoxError(
                f"the training manifest has {len(manifest)} utterances, fewer than one batch of {batch}; "
                f"lower training.batch"
            )
        self.size = len(manifest)
        self.views = views
        self.augmenter = augmenter
        self.batch = batch
        self.seed = seed
        self.device = device
        self.workers = workers
        self.labels = labels
        self.dataset = CropDataset(FileSource(manifest), views, seed)

    @property
    def steps(self) -> int:
        """Number of full batches in an epoch; what is left over comes in another epoch."""
        return self.size // self.batch

    def epoch(self, epoch: int, positives: Positives) -> Iterator[Batch]:
        """Yield the shuffled full batches of an epoch.

        Where a pass before each epoch makes every reference anew, none is read here: nobody would see it.
        """
        without = frozenset({"reference"}) if positives.refresh else frozenset[str]()
        self.dataset.set_epoch(epoch, positives.partners(epoch), without)
        order = np.random.default_rng([self.seed, epoch, 0x0DE2]).permutation(self.size)
        yield from self._load(order[: self.steps * self.batch].tolist(), epoch)

    def every(self, epoch: int) -> Iterator[Batch]:
        """Yield every utterance once, shuffled, the last batch shorter: the fill pass."""
        self.dataset.set_epoch(epoch)
        order = np.random.default_rng([self.seed, epoch, 0xF111]).permutation(self.size)
        yield from self._load(order.tolist(), epoch)

    def _load(self, order: Sequence[int], epoch: int) -> Iterator[Batch]:
        loader = DataLoader(
            self.dataset,
            batch_size=self.batch,
            sampler=list(order),
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=self.device.type == "cuda",
        )
        for ids, waves in loader:
            views = {name: wave.to(self.device, non_blocking=True) for name, wave in waves.items()}
            yield Batch(
                ids.to(self.device),
                {
                    name: self._augment(v, name, views[name], ids, epoch)
                    for v, name in enumerate(self.views)
                    if name in views
                },
                None if self.labels is None else self.labels[ids].to(self.device),
            )

    def _augment(self, view: int, name: str, wave: Tensor, ids: Tensor, epoch: int) -> Tensor:
        if not self.views[name].augment:
            return wave
        crops = wave.shape[1]
        seeds = [draw_seed(self.seed, epoch, i, view, n, 0xA06) for i in ids.tolist() for n in range(crops)]
        augmented: Tensor = self.augmenter(wave.flatten(0, 1), seeds)
        return augmented.view_as(wave)
