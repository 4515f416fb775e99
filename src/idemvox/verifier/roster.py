"""The speakers of a store in memory, ready to be compared with; after a change, only what is new is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import StoreError
from idemvox.verification.scoring import Gallery, Scorer
from idemvox.verifier.enrolment import Enrolment
from idemvox.verifier.store import SpeakerStore

__all__ = ["Combining", "Roster", "load_roster"]

Combining: TypeAlias = Literal["mean", "best"]
"""``mean``: one embedding per speaker and channel, the mean of the enrolments. ``best``: every enrolment."""

Key: TypeAlias = tuple[int, ...]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The speakers of a store at one moment, ready to be compared with.

    Attributes:
        keys: (N) ids of the enrolments in each row of the gallery.
        order: (N,) the rows, speaker by speaker.
        starts: (S,) where each speaker begins in that order.
        names: (S) of the speakers.
        channels: (N) of the rows.
        narrow: (N) as in :class:`Candidate`.
        seconds: (N,) of speech in the rows; NaN if unknown.
        quality: (N,) the lowest of the enrolments in each row; NaN if unknown.
    """

    version: int
    gallery: Gallery
    keys: list[Key]
    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    names: list[str]
    channels: list[str]
    narrow: list[bool | None]
    seconds: NDArray[np.float64]
    quality: NDArray[np.float64]


def load_roster(
    store: SpeakerStore,
    scorer: Scorer,
    old: Roster | None = None,
    *,
    combining: Combining = "mean",
    channel: str | None = None,
) -> Roster:
    """Read the speakers of a store.

    Args:
        store: where from.
        scorer: of the model.
        old: read before, in the same way; its embeddings are not read again.
        combining: how several enrolments of a speaker count.
        channel: only enrolments of this channel; ``None``: all.

    Raises:
        StoreError: the store is empty, or has no enrolment in the channel.
    """
    with store.reading():
        version = store.version()
        rows = _grouped(_wanted(store, channel), combining)
        keys = [tuple(e.id for e in row) for row in rows]
        have = {} if old is None else {key: place for place, key in enumerate(old.keys)}
        new = [key for key in keys if key not in have]
        matrix = _means(store, new)
    gallery = scorer.gallery(matrix)
    wanted = set(keys)
    kept = [] if old is None else [key for key in old.keys if key in wanted]
    if old is not None and kept:
        gone = len(kept) < len(old.keys)
        before = old.gallery.rows(np.array([have[k] for k in kept])) if gone else old.gallery
        gallery = before.joined(gallery) if new else before
    place = {key: n for n, key in enumerate([*kept, *new])}
    order = np.array([place[key] for key in keys], np.intp)
    by_place = [rows[n] for n in np.argsort(order)]
    names = [row[0].speaker for row in rows]
    starts = [n for n, name in enumerate(names) if n == 0 or name != names[n - 1]]
    return Roster(
        version,
        gallery,
        [*kept, *new],
        order,
        np.array(starts, np.intp),
        [names[n] for n in starts],
        [row[0].channel for row in by_place],
        [_common(e.narrow for e in row) for row in by_place],
        np.array([_total(e.seconds for e in row) for row in by_place]),
        np.array([_lowest(e.quality for e in row) for row in by_place]),
    )


def _wanted(store: SpeakerStore, channel: str | None) -> list[Enrolment]:
    """Return the enrolments to compare with, each speaker's together."""
    found = store.enrolments()
    if not found:
        raise StoreError(f"{store.where} is empty: enrol somebody first with `idemvox enrol`")
    if channel is None:
        return found
    wanted = [e for e in found if e.channel == channel.strip()]
    if not wanted:
        have = ", ".join(sorted({repr(e.channel) for e in found}))
        raise StoreError(f"nobody is enrolled in channel {channel!r}; have: {have}")
    return wanted


def _means(store: SpeakerStore, keys: list[Key]) -> Floats:
    """Return (K, D) the mean of the embeddings in each key."""
    if not keys:
        return np.empty((0, store.dim or 0), np.float32)
    matrix = store.embeddings([i for key in keys for i in key])
    counts = np.array([len(key) for key in keys])
    if (counts == 1).all():
        return matrix
    sums: Floats = np.add.reduceat(matrix, np.cumsum(counts) - counts, axis=0)
    sums /= counts[:, None]
    return sums


def _grouped(enrolments: list[Enrolment], combining: Combining) -> list[list[Enrolment]]:
    """Return the enrolments of each row of the gallery, each speaker's rows together."""
    if combining == "best":
        return [[enrolment] for enrolment in enrolments]
    rows: list[list[Enrolment]] = []
    for _, mine in groupby(enrolments, key=lambda e: e.speaker):
        by_channel: dict[str, list[Enrolment]] = {}
        for enrolment in mine:
            by_channel.setdefault(enrolment.channel, []).append(enrolment)
        rows += by_channel.values()
    return rows


def _total(values: Iterable[float | None]) -> float:
    """Return the sum; NaN if one is unknown."""
    return sum(math.nan if value is None else value for value in values)


def _lowest(values: Iterable[float | None]) -> float:
    """Return the lowest; NaN if one is unknown."""
    found = [math.nan if value is None else value for value in values]
    return math.nan if any(map(math.isnan, found)) else min(found)


def _common(values: Iterable[bool | None]) -> bool | None:
    """Return the value that all have; ``None`` if they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None
