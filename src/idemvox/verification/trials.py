"""Trial lists: pairs of recordings, each labelled as same speaker or different speakers."""

from __future__ import annotations

import logging
import re
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import CorpusError
from idemvox.files import atomic_write

if TYPE_CHECKING:
    pass

__all__ = ["OFFICIAL", "OfficialList", "Trials", "load_trials", "save_trials"]

log = logging.getLogger(__name__)

_LABELS = {"1": 1, "target": 1, "tgt": 1, "0": 0, "nontarget": 0, "imp": 0, "impostor": 0}


@dataclass(frozen=True, slots=True)
class OfficialList:
    """A published list, recognised by its number of trials and the form of its ids.

    Attributes:
        files: its file name as published, and from ``idemvox prepare``.
        ids: matches every id in it, with any folder in front.
    """

    name: str
    trials: int
    files: tuple[str, ...]
    ids: re.Pattern[str]


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
"""Reports must name the list: one model has 0.86 % EER on VoxCeleb1-O cleaned and 1.00 % on the original."""


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """A list of N trials; each id is stored once, so four million trials take about 36 MB.

    Attributes:
        name: its name in reports.
        ids: distinct utterance ids (or paths, in lists such as VoxCeleb's).
        labels: (N,) True if both sides are the same speaker.
        enrol_index, test_index: (N,) the two sides of each trial, as indices into :attr:`ids`.
    """

    name: str
    ids: tuple[str, ...]
    labels: NDArray[np.bool_]
    enrol_index: NDArray[np.int32]
    test_index: NDArray[np.int32]

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
        """Return (N,) the speakers of the first sides and (N,) of the second sides, as numbers from 0.

        Args:
            speaker_of: speaker of each id; other ids are ignored.

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

    The label is 1 / 0, target / nontarget, or tgt / imp; the first trial decides at which end of the line it
    is. Blank lines are skipped. Lines with tabs are split at tabs only, so their ids may contain spaces.

    A list with the ids and the number of trials of a published one (:data:`OFFICIAL`) gets its name, such as
    "VoxCeleb1-O (cleaned)". A list with the file name of a published one but a different number of trials
    gives a warning.

    Args:
        path: the list.
        name: its name in reports; default: the official name, or the file's name without suffix.

    Raises:
        CorpusError: there is no such file, it has no trials, or a line is malformed; the message gives its
            number.
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
                        f"{path}, line {number}: expected 'label id id' with the label 1, 0, target,"
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
    """Return the name of the published list that this is; warn if the file has the name of another list."""
    for official in OFFICIAL:
        if path.name in official.files and count != official.trials:
            log.warning(
                "%s has %s trials, but %s has %s; results are not comparable with published ones",
                *(path, f"{count:,}", official.name, f"{official.trials:,}"),
            )
    same = (o for o in OFFICIAL if o.trials == count and all(map(o.ids.fullmatch, ids)))
    return next((o.name for o in same), None)


def save_trials(trials: Trials, path: str | Path) -> None:
    """Write ``label id id`` lines, atomically; separated by tabs if an id contains a space."""
    if any("\t" in i or "\n" in i or "\r" in i or not i for i in trials.ids):
        raise CorpusError("a trial list cannot hold empty ids or ids with tabs or line breaks; rename them")
    separator = "\t" if any(len(i.split()) != 1 or i != i.strip() for i in trials.ids) else " "
    with atomic_write(path) as file:
        for label, enrol, test in trials:
            file.write(f"{int(label)}{separator}{enrol}{separator}{test}\n")
