"""Crops of a corpus: which part of which utterance a step sees, as a function of (seed, epoch, utterance)."""

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
    """How one named view is cut, and whose augmentation it gets.

    Attributes:
        count: crops of each utterance.
        seconds: length of each; a shorter utterance is wrapped round.
        augment: whether the augmentation policy is applied; a reference view stays clean.
        disjoint: crops of all the views so marked do not overlap where the utterance is long enough, and lie
            as far apart as it allows where not (CEL, AAT); otherwise crops fall where they fall (SSPS).
        cut_as: the view whose crops these are once more, to be augmented otherwise.
        augment_as: the view whose draws of augmentation these crops get too (AAT's discriminator needs pairs
            that share theirs); otherwise no two crops share one.
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
    """Return how many samples last ``samples`` when they are played ``speed`` times as fast."""
    return math.ceil(samples * speed)


class AudioSource(Protocol):
    """Where crops come from: files or a pack; anything that can give a range of samples, to any thread."""

    @property
    def lengths(self) -> Numbers:
        """(N,) samples at 16 kHz of each utterance."""
        ...

    def __len__(self) -> int: ...

    def read_into(self, index: int, start: int, out: Pcm) -> int:
        """Fill ``out`` with 16-bit samples from ``start`` on; return how many there were."""
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

    The start of a crop depends on (seed, epoch, utterance, view's name, crop) alone: not on the order of
    reading, the number of readers or the batch.

    Args:
        source: the audio.
        views: what to cut.
        seed: of the run.
        partnered: names of the views that are cut from the utterance's partner where there are partners
            (supervised positive sampling).
        speeds: at which utterances may be played: one is drawn for all the augmented views of an utterance
            in an epoch, and so much more or less audio read.
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
        """Return how many samples of a crop :meth:`read` needs room for."""
        crop = self.views[name]
        return samples_before(crop.samples, max(self.speeds)) if crop.augment else crop.samples

    def speed(self, ids: Numbers, epoch: int) -> Numbers:
        """Return the number (B,) of the speed drawn for each utterance in an epoch."""
        u = uniform(mix(self.seed, epoch, ids, name_number("speed")), 1)[:, 0]
        return np.floor(u * len(self.speeds)).astype(np.int64)

    def _samples(self, crop: Crop, speed: Numbers) -> Numbers:
        """Return how many samples (B,) make a crop of each utterance."""
        if not crop.augment:
            return np.full(len(speed), crop.samples)
        return np.array([samples_before(crop.samples, each) for each in self.speeds])[speed]

    def starts(
        self, ids: Numbers, epoch: int, partners: Numbers | None = None
    ) -> dict[str, tuple[Numbers, Numbers]]:
        """Return for each view the utterances (B,) that it is cut from and the first samples (B, n)."""
        if partners is not None and self.partnered.isdisjoint(self.views):
            raise ValueError(f"partners are of no use: none of {sorted(self.partnered)} is a view")
        placed: dict[str, tuple[Numbers, Numbers]] = {}
        speed = self.speed(ids, epoch)
        together = self._disjoint(ids, epoch, speed)
        for name, crop in self.views.items():
            whose = partners[ids] if partners is not None and name in self.partnered else ids
            seeds = mix(self.seed, epoch, whose, name_number(crop.cut_as or name))
            room = np.maximum(self.source.lengths[whose] - self._samples(crop, speed), 0) + 1  # (B,)
            start = np.floor(uniform(seeds, crop.count) * room[:, None]).astype(np.int64)
            if name in together:
                start = np.where((whose == ids)[:, None], together[name], start)
            placed[name] = whose, start
        return {name: placed[crop.cut_as or name] for name, crop in self.views.items()}

    def _disjoint(self, ids: Numbers, epoch: int, speed: Numbers) -> dict[str, Numbers]:
        """Place the crops of the disjoint views of each utterance in random order, random gaps between."""
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
        # where too short, evenly over what there is
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
            epoch: from 0 on.
            out: 16-bit samples, or float32 with full scale at 1; only the views in it are read; T is at least
                the view's :meth:`width`, and what is behind the samples for the utterance's speed is left as
                it was.
            partners: (N,) the utterance that stands in for each one's partnered views, ``None`` for itself.

        Raises:
            CorpusError: an utterance gives no audio at all.
        """
        places = self.starts(ids, epoch, partners)
        speed = self.speed(ids, epoch)
        wanted = {name: self._samples(self.views[name], speed).tolist() for name in out}
        cuts = {name: (whose.tolist(), starts.tolist()) for name, (whose, starts) in places.items()}
        for row in range(len(ids)):  # all views of an utterance together, while its file is at hand
            for name, crops in out.items():
                whose, starts = cuts[name]
                for number, start in enumerate(starts[row]):
                    self._fill(whose[row], start, crops[row, number, : wanted[name][row]])

    def _fill(self, index: int, start: int, out: npt.NDArray[Any]) -> None:
        """Read one crop, wrapping a shorter utterance round."""
        pcm: Pcm = out if out.dtype == np.int16 else np.empty(len(out), np.int16)
        got = self.source.read_into(index, start, pcm)
        if got == 0:
            raise CorpusError(
                f"utterance {index} of the corpus gave no audio although it lists "
                f"{self.source.lengths[index] / SAMPLE_RATE:.2f} s; its file has changed: "
                "run `idemvox prepare` again"
            )
        if got < len(pcm):
            pcm[got:] = np.resize(pcm[:got], len(pcm) - got)
        if pcm is not out:
            out[:] = pcm
            out *= np.float32(1 / FULL_SCALE)
