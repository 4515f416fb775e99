"""From a corpus to augmented batches on the device, read ahead by threads."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idemvox.arrays import Numbers, Pcm
from idemvox.audio.augment import Augmenter
from idemvox.audio.banks import Bank, coloured_noises, load_bank, load_rooms, trim_room
from idemvox.audio.memory import empty, to_wave
from idemvox.audio.read import SAMPLE_RATE, from_pcm
from idemvox.audio.rooms import room_bank
from idemvox.audio.speed import change_speed
from idemvox.batch import Batch
from idemvox.corpus.balance import Balance, BalancedOrder
from idemvox.corpus.corpus import is_corpus, open_corpus
from idemvox.corpus.crops import AudioSource, Cropper, Views, samples_before
from idemvox.devices import to_device
from idemvox.draws import mix, name_number
from idemvox.errors import RecipeError
from idemvox.positives.base import Positives
from idemvox.processes import read_ahead
from idemvox.recipe import Augment

__all__ = ["AudioWait", "Batches", "OneAhead", "build_augmenter", "load_pieces"]

T = TypeVar("T")

_BABBLE_CLIPS = 400
_AHEAD = 2  # batches per reader that are being read or ready
STALLED = 0.1  # share of an epoch spent waiting for audio above which a warning is printed


def build_augmenter(settings: Augment, source: AudioSource, seed: int) -> Augmenter:
    """Return an augmenter with the recipe's banks or built-in ones; babble uses the training audio."""
    if settings.policy == "none":
        return Augmenter("none", {}, None, telephone=settings.telephone)

    def bank(path: Path) -> Bank:
        return Bank(load_pieces(path, seed=seed, max_hours=settings.max_hours))

    noises = {"noise": bank(settings.noise) if settings.noise else Bank(coloured_noises(seed=seed))}
    if settings.music:
        noises["music"] = bank(settings.music)
    noises["speech"] = bank(settings.speech) if settings.speech else Bank(_excerpts(source, seed))
    rooms = Bank(_rooms(settings.rooms) if settings.rooms else room_bank(settings.simulated_rooms, seed))
    return Augmenter(settings.policy, noises, rooms, settings.babble, settings.telephone)


def load_pieces(path: Path, *, seconds: float = 5.0, max_hours: float = 8.0, seed: int = 0) -> list[Pcm]:
    """Return pieces for a bank, in random order up to ``max_hours``, from a folder, a manifest or a pack."""
    if not is_corpus(path):
        return load_bank(path, seconds, max_hours, seed)
    source = open_corpus(path).source
    pieces, left = [], max_hours * 3600 * SAMPLE_RATE
    for index in np.random.default_rng([seed, 0xBA2C]).permutation(len(source)).tolist():
        pieces.append(_whole(source, index, round(seconds * SAMPLE_RATE)))
        left -= len(pieces[-1])
        if left < 0:
            break
    return pieces


def _rooms(path: Path) -> list[npt.NDArray[np.float32]]:
    if not is_corpus(path):
        return load_rooms(path)
    source = open_corpus(path).source
    return [trim_room(from_pcm(_whole(source, n, 2 * SAMPLE_RATE))) for n in range(len(source))]


def _excerpts(source: AudioSource, seed: int) -> list[Pcm]:
    """Return up to 4 seconds of random training utterances, to make babble from."""
    chosen = np.random.default_rng([seed, 0xBABB1E]).permutation(len(source))[:_BABBLE_CLIPS]
    return [_whole(source, index, 4 * SAMPLE_RATE) for index in chosen.tolist()]


def _whole(source: AudioSource, index: int, most: int) -> Pcm:
    """Return an utterance, or its first ``most`` samples."""
    out = np.empty(min(most, int(source.lengths[index])), np.int16)
    return out[: source.read_into(index, 0, out)]


@dataclass(slots=True)
class AudioWait:
    """Measures how long training waits for audio."""

    seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def share(self) -> float:
        """Return the share of time spent waiting since the last :meth:`restart`."""
        return self.seconds / max(time.perf_counter() - self._since, 1e-9)

    def restart(self) -> None:
        """Reset the count."""
        self.seconds, self._since = 0.0, time.perf_counter()

    def waiting(self, items: Iterable[T]) -> Iterator[T]:
        """Yield items, counting the time spent waiting for each."""
        began = time.perf_counter()
        for item in items:
            self.seconds += time.perf_counter() - began
            yield item
            began = time.perf_counter()

    def advice(self, workers: int, packed: bool) -> str | None:
        """Return advice if more than a tenth of the time was spent waiting, else ``None``."""
        if self.share() <= STALLED:
            return None
        ways = [] if packed else ["pack the corpus with `idemvox pack` and train from the pack"]
        ways.append(f"raise training.workers (now {workers})")
        if packed:
            ways.append("put the pack on a faster disk")
        return f"{self.share():.0%} of the time was spent waiting for audio: {', or '.join(ways)}"


class OneAhead(Iterator[Batch]):
    """An iterator over batches whose next batch can be prepared early.

    Args:
        batches: the batches in order.
        ahead: whether :meth:`prepare` does anything. A GPU can work on the next batch while the host waits
            for the result of this one; a CPU would only hold two in memory.
    """

    def __init__(self, batches: Iterator[Batch], ahead: bool) -> None:
        self._batches, self._ahead = batches, ahead
        self._ready: list[Batch] = []

    def prepare(self) -> None:
        """Prepare the next batch, if there is one and it is not ready yet."""
        if self._ahead and not self._ready:
            self._ready.extend(islice(self._batches, 1))

    def __next__(self) -> Batch:
        return self._ready.pop() if self._ready else next(self._batches)


class Batches:
    """The batches of each epoch: shuffled, cropped, moved to the device and augmented.

    The order of an epoch is a function of (seed, epoch), the augmentation of a crop of (seed, epoch,
    utterance, view's name, crop). So any batch can be recomputed: an epoch resumes at any step, and each rank
    takes its part of the same batches.

    Args:
        source: the training audio.
        views: views of the framework and the positive sampler.
        augmenter: the augmenter, already on the device.
        batch: utterances per step and rank.
        workers: threads that read ahead; 0 reads each batch when it is needed.
        classes: (N,) class numbers for a supervised framework, -1 if unknown; ``None`` for any other.
        speeds: speeds of augmented views, one for all views of an utterance in an epoch. A faster voice
            counts as another voice: with S speeds the classes 0 to C - 1 become 0 to S C - 1.
        partnered: views that come from an utterance's partner, if it has one.
        balance: number of utterances of each class in a batch; ``None`` for random batches.
        rank, world: this process's number, and the number of processes; together they see each utterance
            once.
    """

    def __init__(
        self,
        source: AudioSource,
        views: Views,
        augmenter: Augmenter,
        *,
        batch: int,
        seed: int,
        device: torch.device,
        workers: int,
        classes: Tensor | None = None,
        speeds: Sequence[float] = (1.0,),
        partnered: Collection[str] = frozenset({"positive"}),
        balance: Balance | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(source) < batch * world:
            raise RecipeError(
                f"the training corpus has {len(source)} utterances, fewer than one batch of {batch * world}; "
                f"lower training.batch"
            )
        self.size = len(source)
        self.views = views
        self.augmenter = augmenter
        self.batch = batch
        self.seed = seed
        self.device = device
        self.workers = workers
        self.classes = classes
        self.voices = 0 if classes is None else int(classes.max()) + 1
        self.rank, self.world = rank, world
        self.balanced: BalancedOrder | None = None
        if balance is not None:
            if classes is None:
                raise ValueError("only a supervised framework may use balanced batches")
            if len(speeds) > 1:
                raise RecipeError(
                    "augment.speeds splits a class into several voices, but batches need several utterances "
                    "of each class here; leave out augment.speeds"
                )
            self.balanced = BalancedOrder(classes.numpy(), batch, balance, seed, world)
        self.cropper = Cropper(source, views, seed, partnered, speeds)
        self.audio_wait = AudioWait()

    @property
    def steps(self) -> int:
        """Number of full batches in an epoch; remaining utterances are used in other epochs."""
        return self.balanced.steps if self.balanced else self.size // (self.batch * self.world)

    def epoch(self, epoch: int, positives: Positives, first: int = 0) -> Iterator[Batch]:
        """Yield this rank's part of an epoch's shuffled full batches, from step ``first``.

        In balanced batches the utterances of a class are adjacent and on the same rank. If a pass before each
        epoch recomputes all references, they are not read here.
        """
        if self.balanced:
            order = self.balanced.epoch(epoch).ravel()
        else:
            order = np.random.default_rng([self.seed, epoch, 0x0DE2]).permutation(self.size)
        rows = order[: self.steps * self.batch * self.world].reshape(self.steps, self.world, self.batch)
        names = [name for name in self.views if name != "reference" or not positives.refresh]
        yield from self._load(list(rows[first:, self.rank]), epoch, names, positives.partners(epoch))

    def every(self, epoch: int, first: int = 0, views: Sequence[str] | None = None) -> Iterator[Batch]:
        """Yield this rank's part of a pass over all utterances, shuffled, in batches of nearly equal size.

        It starts at batch ``first``. ``views`` names the views to read; default: all.
        """
        order = np.random.default_rng([self.seed, epoch, 0xF111]).permutation(self.size)
        batches = np.array_split(order, -(-self.size // (self.batch * self.world)))
        parts = [np.array_split(ids, self.world)[self.rank] for ids in batches]
        yield from self._load(parts[first:], epoch, [*self.views] if views is None else views)

    def _load(
        self,
        batches: Sequence[Numbers],
        epoch: int,
        names: Sequence[str],
        partners: Numbers | None = None,
    ) -> Iterator[Batch]:
        for ids, views in self.read_ahead(batches, epoch, names, partners):
            speed = self.cropper.speed(ids, epoch)
            classes = None
            if self.classes is not None:
                classes = self.classes[ids]
                classes = torch.where(classes < 0, classes, classes + torch.from_numpy(speed) * self.voices)
                classes = to_device(classes, self.device)
            yield Batch(
                to_device(ids, self.device),
                {name: self.prepare(name, pcm, ids, speed, epoch) for name, pcm in views.items()},
                classes,
            )

    def read_ahead(
        self,
        batches: Sequence[Numbers],
        epoch: int,
        names: Sequence[str],
        partners: Numbers | None = None,
    ) -> Iterator[tuple[Numbers, dict[str, Tensor]]]:
        """Yield ids (B,) and the named views (B, n, T) of each batch, in order.

        Views are 16-bit samples, to halve the transfer to a device; on a CPU, views that are not augmented
        are float waves. Several threads read the next batches.
        """
        self.audio_wait.restart()
        ready = read_ahead(
            lambda ids: self.read(ids, epoch, names, partners), batches, self.workers, _AHEAD * self.workers
        )
        with closing(ready):
            yield from self.audio_wait.waiting(ready)

    def read(
        self, ids: Numbers, epoch: int, names: Sequence[str], partners: Numbers | None
    ) -> tuple[Numbers, dict[str, Tensor]]:
        """Return the views of a batch, in pinned memory for a GPU."""
        pinned = self.device.type == "cuda"
        views = {
            name: empty(
                (len(ids), self.views[name].count, self.cropper.width(name)),
                torch.float32 if self.device.type == "cpu" and not self._altered(name) else torch.int16,
                torch.device("cpu"),
                pinned,
            )
            for name in names
        }
        self.cropper.read(ids, epoch, {name: pcm.numpy() for name, pcm in views.items()}, partners)
        return ids, views

    def _altered(self, name: str) -> bool:
        """Return whether a view may be augmented."""
        return self.views[name].augment and not (self.augmenter.idle and self.cropper.speeds == (1.0,))

    def prepare(self, name: str, pcm: Tensor, ids: Numbers, speed: Numbers, epoch: int) -> Tensor:
        """Move (B, n, T) samples to the device, scale them to [-1, 1], and augment them."""
        wave, crop = pcm.to(self.device, non_blocking=True), self.views[name]
        if not crop.augment or self.augmenter.idle or self.cropper.speeds != (1.0,):
            wave = to_wave(wave)
        if crop.augment and self.cropper.speeds != (1.0,):
            wave = self._play(wave, speed, crop.samples)
        if not crop.augment or self.augmenter.idle:
            return wave
        number = name_number(crop.augment_as or name)
        seeds = mix(self.seed, epoch, ids[:, None], number, np.arange(crop.count), 0xA06)  # (B, n)
        augmented: Tensor = self.augmenter(wave.flatten(0, 1), seeds.ravel())
        return augmented.view_as(wave)

    def _play(self, wave: Tensor, speed: Numbers, samples: int) -> Tensor:
        """Return (B, n, samples) each utterance's crops (B, n, T) played at its speed."""
        out = wave.new_empty(*wave.shape[:2], samples)
        for number, factor in enumerate(self.cropper.speeds):
            rows = to_device(np.flatnonzero(speed == number), wave.device)
            if len(rows):
                faster = wave[rows, :, : samples_before(samples, factor)].flatten(0, 1)
                out[rows] = change_speed(faster, factor, samples).unflatten(0, (len(rows), -1))
        return out
