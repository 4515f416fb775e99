"""The speakers of a store in memory, ready to be compared with; a change costs as much as it is large."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import NobodyEnrolled
from idemvox.verification.scoring import Gallery, Scorer
from idemvox.verifier.enrolment import Enrolment
from idemvox.verifier.store import SpeakerStore

__all__ = ["Combining", "Roster", "Row", "load_roster"]

Combining: TypeAlias = Literal["mean", "best"]
"""``mean``: one embedding per speaker and channel, the mean of the enrolments. ``best``: every enrolment."""

Key: TypeAlias = tuple[str, str, int]
Floats = NDArray[np.float32]
Values = NDArray[np.float64]
_SHARE = 8  # new or deleted rows are gathered up to this part of all


@dataclass(frozen=True, slots=True)
class Row:
    """What a recording is compared with: the mean of some enrolments of one speaker in one channel.

    Attributes:
        seconds: of speech in all of them; NaN if unknown.
        quality: the lowest; NaN if unknown.
        narrow: whether all have nothing above 4 kHz; ``None`` if unknown or mixed.
    """

    speaker: str
    channel: str
    enrolments: tuple[Enrolment, ...]
    seconds: float
    quality: float
    narrow: bool | None

    @classmethod
    def of(cls, enrolments: Sequence[Enrolment]) -> Row:
        """Return the row of enrolments."""
        seconds = _known(e.seconds for e in enrolments)
        quality = _known(e.quality for e in enrolments)
        bands = {e.narrow for e in enrolments}
        return cls(
            enrolments[0].speaker,
            enrolments[0].channel,
            tuple(enrolments),
            sum(seconds),
            min(quality),
            bands.pop() if len(bands) == 1 else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Roster:
    """The speakers of a store at one moment. It has N rows, of which some may be out of use.

    Attributes:
        version: of the store.
        last: highest id of an enrolment; higher ones are new.
        deletions: of the store.
        galleries: of rows from the first on, and of newer rows.
        rows: (N or more) a later roster adds to the same list.
        seconds, quality: (N,) of the rows; see :class:`Row`.
        used: (N,) False for rows that were deleted, or replaced by a later one.
        speakers: (N,) number of each row's speaker.
        order: the rows in use, speaker by speaker.
        starts: (S,) where each speaker begins in that order.
        numbers: number of each speaker; shared with later rosters, as are the next two.
        row_of: row of each enrolment.
        latest: row in use for what is compared as one.
    """

    version: int = -1
    last: int = 0
    deletions: int = 0
    galleries: tuple[Gallery, ...] = ()
    rows: list[Row] = field(default_factory=list)
    seconds: Values = field(default_factory=lambda: np.empty(0))
    quality: Values = field(default_factory=lambda: np.empty(0))
    used: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    speakers: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    order: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    starts: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))
    numbers: dict[str, int] = field(default_factory=dict)
    row_of: dict[int, int] = field(default_factory=dict)
    latest: dict[Key, int] = field(default_factory=dict)

    def scores(self, scorer: Scorer, embedding: ArrayLike, rows: NDArray[np.intp] | None = None) -> Floats:
        """Return (N,) the scores of an embedding (D,); minus infinity outside ``rows``, if they are given."""
        probe = np.asarray(embedding, np.float32)[None]
        if rows is not None:
            some, start = np.full(len(self.used), -np.inf, np.float32), 0
            for gallery in self.galleries:
                mine = rows[(rows >= start) & (rows < start + len(gallery))]
                some[mine] = scorer.against(probe, gallery.rows(mine - start))[0]
                start += len(gallery)
            return some
        parts = [scorer.against(probe, gallery)[0] for gallery in self.galleries]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
        old: read before with the same arguments; only what has changed since is read. It stays valid, but
            can be followed by one roster only.
        combining: how several enrolments of a speaker count.
        channel: only enrolments of this channel; ``None``: all.

    Raises:
        NobodyEnrolled: the store is empty, or has no enrolment in the channel.
    """
    old = old or Roster()
    with store.reading():
        version = store.version()
        new = store.enrolments(after=old.last)
        gone = _gone(store, old)
        wanted = [e for e in new if channel is None or e.channel == channel.strip()]
        changed = _changed(old, wanted, gone, combining)
        fresh = {key: members for key, members in changed.items() if members}
        embeddings = _means(store, list(fresh.values()))
        deletions = store.deletions()
    used, galleries = old.used.copy(), old.galleries
    used[[old.latest[key] for key in changed if key in old.latest]] = False
    if not used.any() and not fresh:
        if store.names():
            raise NobodyEnrolled(
                f"nobody in {store.where} is enrolled in channel {channel!r}: name another, or none"
            )
        raise NobodyEnrolled(f"{store.where} is empty: enrol somebody first with `idemvox enrol`")
    if fresh:
        galleries = (*galleries[:1], _joined([*galleries[1:], scorer.gallery(embeddings)]))
    for key in changed:  # from here on nothing can fail
        old.latest.pop(key, None)
    for i in gone:
        old.row_of.pop(i, None)
    for key, members in fresh.items():
        old.latest[key] = len(old.rows)
        old.row_of.update((e.id, len(old.rows)) for e in members)
        old.numbers.setdefault(members[0].speaker, len(old.numbers))
        old.rows.append(Row.of(members))
    added = old.rows[len(used) :]
    used = np.concatenate([used, np.ones(len(added), bool)])
    speakers = np.array([old.numbers[row.speaker] for row in added], np.intp)
    speakers = np.concatenate([old.speakers, speakers])
    last = max([old.last, *(e.id for e in new)])
    return _tidied(
        Roster(
            version,
            last,
            deletions,
            galleries,
            old.rows,
            np.concatenate([old.seconds, np.array([row.seconds for row in added])]),
            np.concatenate([old.quality, np.array([row.quality for row in added])]),
            used,
            speakers,
            *_ordered(used, speakers),
            old.numbers,
            old.row_of,
            old.latest,
        )
    )


def _gone(store: SpeakerStore, old: Roster) -> set[int]:
    """Return the enrolments of a roster that have been deleted."""
    if store.deletions() == old.deletions:
        return set()
    return set(old.row_of).difference(store.ids())


def _changed(
    old: Roster, new: list[Enrolment], gone: set[int], combining: Combining
) -> dict[Key, list[Enrolment]]:
    """Return the members of what is compared as one, where they are new or fewer; empty if none is left."""

    def key(enrolment: Enrolment) -> Key:
        return (enrolment.speaker, enrolment.channel, enrolment.id if combining == "best" else 0)

    changed: dict[Key, list[Enrolment]] = {}
    for i in gone:
        row = old.rows[old.row_of[i]]
        changed[key(row.enrolments[0])] = [e for e in row.enrolments if e.id not in gone]
    for enrolment in new:
        name = key(enrolment)
        if name not in changed:
            before = old.latest.get(name)
            changed[name] = [] if before is None else list(old.rows[before].enrolments)
        changed[name].append(enrolment)
    return changed


def _means(store: SpeakerStore, members: list[list[Enrolment]]) -> Floats:
    """Return (K, D) the mean embeddings of K lists of enrolments."""
    if not members:
        return np.empty((0, 0), np.float32)
    matrix = store.embeddings([e.id for some in members for e in some])
    counts = np.array([len(some) for some in members])
    if (counts == 1).all():
        return matrix
    sums: Floats = np.add.reduceat(matrix, np.cumsum(counts) - counts, axis=0)
    sums /= counts[:, None]
    return sums


def _ordered(
    used: NDArray[np.bool_], speakers: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows in use, speaker by speaker, and where each speaker begins."""
    rows = np.flatnonzero(used)
    order = rows[np.argsort(speakers[rows], kind="stable")]
    return order, np.flatnonzero(np.diff(speakers[order], prepend=-1))


def _joined(galleries: Sequence[Gallery]) -> Gallery:
    first, *others = galleries
    for other in others:
        first = first.joined(other)
    return first


def _tidied(roster: Roster) -> Roster:
    """Join the galleries when the newer one is large, and drop rows out of use when they are many."""
    size = len(roster.used)
    newer = len(roster.galleries[1]) if len(roster.galleries) > 1 else 0
    unused = size - int(roster.used.sum())
    if _SHARE * max(newer, unused) <= size:
        return roster
    keep = np.flatnonzero(roster.used)
    place = np.cumsum(roster.used) - 1
    rows = [roster.rows[i] for i in keep]
    numbers: dict[str, int] = {}
    for row in rows:
        numbers.setdefault(row.speaker, len(numbers))
    used, speakers = np.ones(len(keep), bool), np.array([numbers[row.speaker] for row in rows], np.intp)
    return Roster(
        roster.version,
        roster.last,
        roster.deletions,
        (_joined(roster.galleries).rows(keep),),
        rows,
        roster.seconds[keep],
        roster.quality[keep],
        used,
        speakers,
        *_ordered(used, speakers),
        numbers,
        {i: int(place[row]) for i, row in roster.row_of.items()},
        {key: int(place[row]) for key, row in roster.latest.items()},
    )


def _known(values: Iterable[float | None]) -> list[float]:
    """Return the values, or NaN alone if one is unknown."""
    found = list(values)
    return [math.nan] if None in found else [value for value in found if value is not None]
