"""Crops: the parts of utterances that a step sees, as a function of (seed, epoch, utterance)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from idemvox.arrays import Numbers, Pcm, Wave
from idemvox.audio.read import FULL_SCALE, SAMPLE_RATE, read_pcm
from idemvox.corpus.manifest import Manifest
from idemvox.draws import mix, name_number, uniform
from idemvox.errors import CorpusError

__all__ = ["AudioSource", "Crop", "Cropper", "FileSource", "Views", "samples_before"]


@dataclass(frozen=True, slots=True)
class Crop:
    """How one named view is cut and augmented.

    Attributes:
        count: crops of each utterance.
        seconds: length of a crop; a shorter utterance is repeated.
        augment: whether to augment; a reference view stays clean.
        disjoint: crops of all disjoint views do not overlap if the utterance is long enough; otherwise they
            are as far apart as possible (CEL, AAT). Crops of other views are independent (SSPS).
        cut_as: name of a view with the same crops, to be augmented differently.
        augment_as: name of a view with the same augmentation draws (AAT's discriminator needs pairs with
            common augmentation); otherwise every crop has its own.
    """

    count: int
    seconds: float
    augment: bool = True
    disjoint: bool = False
    cut_as: str | None = None
    augment_as: str | None = None

    @property
    def samples(self) -> int:
        """Length in 16-kHz samples."""
        return round(self.seconds * SAMPLE_RATE)


Views = dict[str, Crop]


def samples_before(samples: int, speed: float) -> int:
    """Return the number of samples that give ``samples`` when played ``speed`` times as fast."""
    return math.ceil(samples * speed)


class AudioSource(Protocol):
    """A source of crops, such as files or a pack; any thread may read ranges of samples from it."""

    @property
    def lengths(self) -> Numbers:
        """(N,) length of each utterance in samples at 16 kHz."""
        ...

    def __len__(self) -> int: ...

    def read_into(self, index: int, start: int, out: Pcm) -> int:
        """Fill ``out`` with 16-bit samples from ``start``; return the number of samples read."""
        ...


class FileSource:
    """Reads crops from the files of a manifest, seeking instead of decoding whole files."""

    def __init__(self, manifest: Manifest) -> None:
        self._paths = [str(manifest.path(u)) for u in manifest]
        self._begins = np.array([round((u.start or 0) * SAMPLE_RATE) for u in manifest], np.int64)
        self.lengths = np.array([round(u.seconds * SAMPLE_RATE) for u in manifest], np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def read_into(self, index: int, start: int, out: Pcm) -> int:
        wanted = min(len(out), max(int(self.lengths[index]) - start, 0))
        wave = read_pcm(self._paths[index], int(self._begins[index]) + start, wanted)
        out[: len(wave)] = wave
        return len(wave)


class Cropper:
    """Cuts the views of utterances.

    The start of a crop depends only on (seed, epoch, utterance, view's name, crop), not on the order of
    reading, the number of readers or the batch.

    Args:
        source: the audio.
        views: the views to cut.
        seed: seed of the run.
        partnered: names of the views that are cut from an utterance's partner if there are partners
            (supervised positive sampling).
        speeds: speeds to play utterances at. One is drawn for all augmented views of an utterance in an
            epoch, and accordingly more or less audio is read.
    """

    def __init__(
        self,
        source: AudioSource,
        views: Views,
        seed: int,
        partnered: Collection[str] = frozenset({"positive"}),
        speeds: Sequence[float] = (1.0,),
    ) -> None:
        for name, crop in views.items():
            for other in (crop.cut_as, crop.augment_as):
                if other is not None and (other not in views or views[other].count != crop.count):
                    raise ValueError(f"view {name!r} follows {other!r}, which is no view of as many crops")
            if crop.cut_as is not None and views[crop.cut_as].samples != crop.samples:
                raise ValueError(f"view {name!r} is cut as {crop.cut_as!r}, which has another length")
        self.source = source
        self.views = views
        self.seed = seed
        self.partnered = frozenset(partnered)
        self.speeds = tuple(speeds)

    def width(self, name: str) -> int:
        """Return the number of samples per crop that :meth:`read` needs space for."""
        crop = self.views[name]
        return samples_before(crop.samples, max(self.speeds)) if crop.augment else crop.samples

    def speed(self, ids: Numbers, epoch: int) -> Numbers:
        """Return (B,) the index of the speed drawn for each utterance in an epoch."""
        u = uniform(mix(self.seed, epoch, ids, name_number("speed")), 1)[:, 0]
        return np.floor(u * len(self.speeds)).astype(np.int64)

    def _samples(self, crop: Crop, speed: Numbers) -> Numbers:
        """Return (B,) the number of samples to read for a crop of each utterance."""
        if not crop.augment:
            return np.full(len(speed), crop.samples)
        return np.array([samples_before(crop.samples, each) for each in self.speeds])[speed]

    def starts(
        self, ids: Numbers, epoch: int, partners: Numbers | None = None
    ) -> dict[str, tuple[Numbers, Numbers]]:
        """Return for each view the utterances that it is cut from and (B, n) the first samples.

        The utterances are (B,), or (B, n) if ``partners`` has several for each.
        """
        if partners is not None and self.partnered.isdisjoint(self.views):
            raise ValueError(f"there are partners, but none of {sorted(self.partnered)} is a view")
        placed: dict[str, tuple[Numbers, Numbers]] = {}
        speed = self.speed(ids, epoch)
        disjoint = self._disjoint(ids, epoch, speed)
        for name, crop in self.views.items():
            origin = partners[ids] if partners is not None and name in self.partnered else ids
            if origin.ndim == 2:  # crops take turns
                origin = origin[:, np.arange(crop.count) % origin.shape[1]]  # (B, n)
            draws = uniform(mix(self.seed, epoch, origin, name_number(crop.cut_as or name)), crop.count)
            if origin.ndim == 2:
                draws = np.diagonal(draws, axis1=1, axis2=2)  # (B, n), each crop's of its own utterance
            each = origin.reshape(len(ids), -1)  # (B, 1 or n)
            room = np.maximum(self.source.lengths[each] - self._samples(crop, speed)[:, None], 0) + 1
            start = np.floor(draws * room).astype(np.int64)
            if name in disjoint:
                start = np.where(each == ids[:, None], disjoint[name], start)
            placed[name] = origin, start
        return {name: placed[crop.cut_as or name] for name, crop in self.views.items()}

    def _disjoint(self, ids: Numbers, epoch: int, speed: Numbers) -> dict[str, Numbers]:
        """Return the starts of each utterance's disjoint crops, in random order with random gaps."""
        marked = {name: crop for name, crop in self.views.items() if crop.disjoint and crop.cut_as is None}
        if not marked:
            return {}
        sizes = np.stack(
            [self._samples(c, speed) for c in marked.values() for _ in range(c.count)], 1
        )  # (B, k)
        crops = sizes.shape[1]
        draws = uniform(mix(self.seed, epoch, ids, name_number("disjoint")), 2 * crops)  # (B, 2k)
        order = draws[:, :crops].argsort(1)
        size = np.take_along_axis(sizes, order, 1)
        length = self.source.lengths[ids][:, None]
        spare = length - size.sum(1, keepdims=True)
        gaps = np.floor(np.sort(draws[:, crops:]) * (np.maximum(spare, 0) + 1)).astype(np.int64)
        # too short an utterance: evenly spread over it
        spread = np.maximum(length - size, 0) * np.arange(crops) // max(crops - 1, 1)
        start = np.empty(order.shape, np.int64)
        np.put_along_axis(start, order, np.where(spare >= 0, size.cumsum(1) - size + gaps, spread), 1)
        cuts = np.cumsum([crop.count for crop in marked.values()])[:-1]
        return dict(zip(marked, np.split(start, cuts, 1), strict=True))

    def read(
        self,
        ids: Numbers,
        epoch: int,
        out: Mapping[str, Pcm | Wave],
        partners: Numbers | None = None,
    ) -> None:
        """Fill the views named in ``out``, name -> (B, n, T), for the utterances ``ids`` (B,).

        Args:
            ids: positions in the corpus.
            epoch: number of the epoch, from 0.
            out: 16-bit samples, or float32 with full scale at 1. Only its views are read. T is at least the
                view's :meth:`width`; samples beyond those for the utterance's speed are unchanged.
            partners: (N,) the utterance that each one's partnered views are cut from, or (N, P) several that
                a view's crops are cut from in turns; ``None`` for itself.

        Raises:
            CorpusError: an utterance has no audio.
        """
        places = self.starts(ids, epoch, partners)
        speed = self.speed(ids, epoch)
        wanted = {name: self._samples(self.views[name], speed).tolist() for name in out}
        cuts = {
            name: (np.broadcast_to(origin.reshape(len(ids), -1), starts.shape).tolist(), starts.tolist())
            for name, (origin, starts) in places.items()
        }
        for row in range(len(ids)):  # all views of an utterance together, while its file is open
            for name, crops in out.items():
                origin, starts = cuts[name]
                for number, start in enumerate(starts[row]):
                    self._fill(origin[row][number], start, crops[row, number, : wanted[name][row]])

    def _fill(self, index: int, start: int, out: npt.NDArray[Any]) -> None:
        """Read one crop, repeating a shorter utterance."""
        pcm: Pcm = out if out.dtype == np.int16 else np.empty(len(out), np.int16)
        got = self.source.read_into(index, start, pcm)
        if got == 0:
            raise CorpusError(
                f"utterance {index} of the corpus has no audio although "
                f"{self.source.lengths[index] / SAMPLE_RATE:.2f} s are listed; its file has changed: "
                "run `idemvox prepare` again"
            )
        if got < len(pcm):
            pcm[got:] = np.resize(pcm[:got], len(pcm) - got)
        if pcm is not out:
            out[:] = pcm
            out *= np.float32(1 / FULL_SCALE)
