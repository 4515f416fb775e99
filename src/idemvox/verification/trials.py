"""Trial lists: which pairs of recordings are compared, and whether each pair is one speaker."""

from __future__ import annotations

import logging
import re
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import CorpusError
from idemvox.files import atomic_write

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest, Utterance

__all__ = ["OFFICIAL", "OfficialList", "Trials", "load_trials", "make_trials", "save_trials"]

log = logging.getLogger(__name__)

Kind = Literal["across", "within", "any"]
_LABELS = {"1": 1, "target": 1, "tgt": 1, "0": 0, "nontarget": 0, "imp": 0, "impostor": 0}
_MOST_PER_SPEAKER = 1000  # utterances of one speaker that make_trials pairs: half a million pairs


@dataclass(frozen=True, slots=True)
class OfficialList:
    """A published list, known by how many trials it has and what its ids look like."""

    name: str
    trials: int
    files: tuple[str, ...]
    """What it is called where it is published, and by ``idemvox prepare``."""
    ids: re.Pattern[str]
    """Fits every id in it, whatever folder stands before it."""


_VOXCELEB1 = re.compile(r"(?:.*/)?id1\d{4}/[^/]+/\d{5}(?:\.\w+)?")
_VOICES = re.compile(r"(?:.*/)?Lab41-SRI-VOiCES-[^/]+")
OFFICIAL = (
    OfficialList("VoxCeleb1-O (original)", 37_720, ("veri_test.txt",), _VOXCELEB1),
    OfficialList("VoxCeleb1-O (cleaned)", 37_611, ("veri_test2.txt",), _VOXCELEB1),
    OfficialList("VoxCeleb1-E (original)", 581_480, ("list_test_all.txt",), _VOXCELEB1),
    OfficialList("VoxCeleb1-E (cleaned)", 579_818, ("list_test_all2.txt",), _VOXCELEB1),
    OfficialList("VoxCeleb1-H (original)", 552_536, ("list_test_hard.txt",), _VOXCELEB1),
    OfficialList("VoxCeleb1-H (cleaned)", 550_894, ("list_test_hard2.txt",), _VOXCELEB1),
    OfficialList("VOiCES 2019 dev", 4_038_656, ("dev-trial-keys.lst", "voices2019-dev.txt"), _VOICES),
)
"""One model scores 0.86 % EER on VoxCeleb1-O cleaned, 1.00 % on the original: reports must say which."""


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """A list of N trials; each id is held once, so four million trials take some 36 MB."""

    name: str
    """Shown in reports."""
    ids: tuple[str, ...]
    """Distinct utterance ids (or paths, in lists such as VoxCeleb's)."""
    labels: NDArray[np.bool_]
    """(N,) True where both sides are one speaker."""
    enrol_index: NDArray[np.int32]
    """(N,) into :attr:`ids`."""
    test_index: NDArray[np.int32]
    """(N,) into :attr:`ids`."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def targets(self) -> int:
        """Number of same-speaker trials."""
        return int(np.count_nonzero(self.labels))

    @property
    def impostors(self) -> int:
        """Number of different-speaker trials."""
        return len(self) - self.targets

    @property
    def enrol(self) -> list[str]:
        """Id of each trial's first side."""
        return [self.ids[i] for i in self.enrol_index]

    @property
    def test(self) -> list[str]:
        """Id of each trial's second side."""
        return [self.ids[i] for i in self.test_index]

    def speakers(self, speaker_of: Mapping[str, str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """(N,) speakers of the first sides and (N,) of the second, as numbers from 0.

        Args:
            speaker_of: speaker of each id; those of other utterances are ignored.

        Raises:
            CorpusError: an id has no speaker.
        """
        if missing := [name for name in self.ids if name not in speaker_of]:
            raise CorpusError(
                f"{len(missing)} of the {len(self.ids)} utterances in the trials {self.name!r} have no"
                f" speaker: {', '.join(missing[:5])}; fill in the manifest's speaker column"
            )
        number = np.unique([speaker_of[name] for name in self.ids], return_inverse=True)[1]
        return number[self.enrol_index], number[self.test_index]

    def __iter__(self) -> Iterator[tuple[bool, str, str]]:
        for label, enrol, test in zip(self.labels, self.enrol_index, self.test_index, strict=True):
            yield bool(label), self.ids[enrol], self.ids[test]

    def select(self, keep: NDArray[np.bool_], name: str | None = None) -> Trials:
        """Return the trials where ``keep`` (N,) is True, with only the ids they use."""
        used, index = np.unique(
            np.concatenate([self.enrol_index[keep], self.test_index[keep]]), return_inverse=True
        )
        enrol, test = np.split(index.astype(np.int32), 2)
        return Trials(name or self.name, tuple(self.ids[i] for i in used), self.labels[keep], enrol, test)


def load_trials(path: str | Path, name: str | None = None) -> Trials:
    """Read a trial list: one trial a line, ``label id id`` (VoxCeleb) or ``id id label`` (VOiCES).

    The label is 1 / 0, target / nontarget, or tgt / imp; which end of the line it stands at is taken from
    the first trial. Blank lines are skipped. Lines with tabs are split at tabs alone, so ids may hold
    spaces there.

    A list with the ids and the number of trials of a published one (:data:`OFFICIAL`) is called by its name,
    such as "VoxCeleb1-O (cleaned)". One that has such a list's file name but another number is warned of.

    Args:
        path: the list.
        name: what reports call it; if left out its official name, or the file's without its ending.

    Raises:
        CorpusError: no such file, no trial in it, or a malformed line, given by its number.
    """
    path = Path(path)
    numbers: dict[str, int] = {}
    labels, enrol, test = array("b"), array("i"), array("i")
    at: int | None = None
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
                if not any(fields):
                    continue
                if at is None:
                    at = 0 if fields[0] in _LABELS else -1
                label = _LABELS.get(fields[at])
                if len(fields) != 3 or label is None:
                    raise CorpusError(
                        f"{path}, line {number}: expected 'label id id', the label being 1, 0, target,"
                        f" nontarget, tgt or imp, got {line.strip()[:120]!r}; correct or remove the line"
                    )
                first, second = fields[1:] if at == 0 else fields[:2]
                labels.append(label)
                enrol.append(numbers.setdefault(first, len(numbers)))
                test.append(numbers.setdefault(second, len(numbers)))
    except OSError as error:
        raise CorpusError(f"cannot read the trial list {path}: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text; is it really a trial list?") from error
    if not labels:
        raise CorpusError(f"{path} holds no trials; expected lines 'label id id'")
    return Trials(
        name or _official_name(path, len(labels), numbers) or path.stem,
        tuple(numbers),
        np.frombuffer(labels, np.int8).astype(np.bool_),
        np.frombuffer(enrol, np.int32).copy(),
        np.frombuffer(test, np.int32).copy(),
    )


def _official_name(path: Path, count: int, ids: Collection[str]) -> str | None:
    """Name of the published list that this is; warns where the file's name promises another."""
    for official in OFFICIAL:
        if path.name in official.files and count != official.trials:
            log.warning(
                "%s has %s trials, but %s has %s; results on it are not comparable with those of others",
                *(path, f"{count:,}", official.name, f"{official.trials:,}"),
            )
    same = (o for o in OFFICIAL if o.trials == count and all(map(o.ids.fullmatch, ids)))
    return next((o.name for o in same), None)


def save_trials(trials: Trials, path: str | Path) -> None:
    """Write ``label id id`` lines, atomically; separated by tabs if an id holds a space."""
    if any("\t" in i or "\n" in i or "\r" in i or not i for i in trials.ids):
        raise CorpusError("a trial list cannot hold empty ids or ids with tabs or line breaks; rename them")
    separator = "\t" if any(len(i.split()) != 1 or i != i.strip() for i in trials.ids) else " "
    with atomic_write(path) as file:
        for label, enrol, test in trials:
            file.write(f"{int(label)}{separator}{enrol}{separator}{test}\n")


def make_trials(
    manifest: Manifest,
    kind: Kind = "across",
    *,
    targets: int = 5_000,
    impostors: int = 20_000,
    seed: int = 0,
    name: str | None = None,
) -> Trials:
    """Draw a trial list from utterances with speaker labels, evenly over speakers.

    Targets are pairs of different utterances of one speaker: from different recordings (``"across"``: the
    question that matters in use), from the same one (``"within"``: easy, as the channel helps), or either
    (``"any"``). Impostors are pairs of different speakers, evenly over pairs of speakers; they depend on
    the seed but not on the kind, so lists of two kinds differ in their targets alone. No pair occurs
    twice in either order, and the list is smaller where fewer pairs exist.

    Args:
        manifest: utterances without a speaker are left out; ``"across"`` and ``"within"`` also leave out
            those without a recording.
        kind: as above.
        targets: target trials to draw.
        impostors: impostor trials to draw.
        seed: same seed and utterances, same list, whatever the order of the manifest.
        name: what reports call it; the kind if left out.

    Raises:
        CorpusError: no such pairs can be drawn, with the reason.
    """
    if kind not in ("across", "within", "any"):
        raise CorpusError(f"unknown kind of trials {kind!r}; have: across, any, within")
    labelled = sorted((u for u in manifest if u.speaker is not None), key=lambda u: u.id)
    by_speaker: dict[str, list[int]] = defaultdict(list)
    for i, utterance in enumerate(labelled):
        by_speaker[str(utterance.speaker)].append(i)
    groups = [np.array(by_speaker[s]) for s in sorted(by_speaker)]
    if len(groups) < 2:
        raise CorpusError(
            f"trials need at least two speakers, the manifest names {len(groups)}; fill in its speaker column"
        )
    target_rng, impostor_rng = (np.random.default_rng([seed, part]) for part in (0, 1))
    same = _target_pairs(labelled, groups, kind, targets, target_rng)
    other = _impostor_pairs(groups, impostors, impostor_rng)
    pairs = np.concatenate([same, other]).astype(np.int32)  # (N, 2)
    labels = np.arange(len(pairs)) < len(same)
    every = Trials(name or kind, tuple(u.id for u in labelled), labels, pairs[:, 0], pairs[:, 1])
    return every.select(np.ones(len(pairs), np.bool_))  # only the ids in use


def _target_pairs(
    utterances: Sequence[Utterance],
    groups: list[NDArray[Any]],
    kind: Kind,
    count: int,
    rng: np.random.Generator,
) -> NDArray[Any]:
    pools: list[NDArray[Any]] = []
    for group in groups:
        if kind != "any":
            group = group[[utterances[i].recording is not None for i in group]]
        if len(group) > _MOST_PER_SPEAKER:
            group = np.sort(rng.choice(group, _MOST_PER_SPEAKER, replace=False))
        first, second = np.triu_indices(len(group), 1)
        if kind != "any":
            _, recording = np.unique([str(utterances[i].recording) for i in group], return_inverse=True)
            keep = (recording[first] == recording[second]) == (kind == "within")
            first, second = first[keep], second[keep]
        pools.append(np.stack([group[first], group[second]], axis=1))
    quota = _share(count, np.array([len(pool) for pool in pools]), rng)
    chosen = [
        pool[rng.choice(len(pool), n, replace=False)] for pool, n in zip(pools, quota, strict=True) if n
    ]
    if not chosen:
        reason = {
            "across": "no speaker has utterances in two recordings (column recording); try kind 'any'",
            "within": "no recording holds two utterances of a speaker (column recording); try kind 'any'",
            "any": "no speaker has two utterances",
        }
        raise CorpusError(f"cannot draw target trials: {reason[kind]}")
    return _flip(np.concatenate(chosen), rng)


def _impostor_pairs(groups: list[NDArray[Any]], count: int, rng: np.random.Generator) -> NDArray[Any]:
    sizes = np.array([len(group) for group in groups])
    total = len(groups) * (len(groups) - 1) // 2  # pairs of speakers
    cells = rng.choice(total, min(count, total), replace=False)
    first, second = _unrank(cells, len(groups))
    room = sizes[first] * sizes[second]
    chosen: list[NDArray[Any]] = [np.empty((0, 2), np.int64)]
    for a, b, n in zip(first, second, _share(count, room, rng), strict=True):
        i, j = np.divmod(rng.choice(sizes[a] * sizes[b], n, replace=False), sizes[b])
        chosen.append(np.stack([groups[a][i], groups[b][j]], axis=1))
    return _flip(np.concatenate(chosen), rng)


def _unrank(cells: NDArray[Any], n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Number of a pair a < b of n things, row by row, -> (a, b)."""
    starts = np.cumsum(np.append(0, np.arange(n - 1, 0, -1)))  # first number of each row
    first = np.searchsorted(starts, cells, side="right") - 1
    return first, cells - starts[first] + first + 1


def _share(count: int, room: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Share ``count`` as evenly as the room of each allows; what is left over goes to random ones."""
    quota = np.zeros(len(room), np.int64)
    while (left := count - int(quota.sum())) > 0 and (free := np.flatnonzero(quota < room)).size:
        if left < len(free):
            free = rng.choice(free, left, replace=False)
        quota[free] = np.minimum(room[free], quota[free] + max(1, left // len(free)))
    return quota


def _flip(pairs: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """Swap the sides of half the pairs."""
    swap = rng.random(len(pairs)) < 0.5
    pairs[swap] = pairs[swap, ::-1]
    return pairs
