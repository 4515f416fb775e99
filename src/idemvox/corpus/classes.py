"""The classes of supervised training: the manifest's speakers, or a table."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idemvox.corpus.corpus import Corpus
from idemvox.corpus.pseudo import is_pseudo, known_as
from idemvox.errors import CorpusError

__all__ = ["Classes", "find_classes", "read_classes"]

COLUMNS = ("id", "class")
PSEUDO = ("id", "speaker")  # a manifest of pseudo-speakers is a table as well


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """A class for each of N utterances; frameworks only get the numbers.

    Attributes:
        numbers: (N,) int64, in order of the classes' names; -1 if unknown.
        count: number of classes.
        file: the table; ``None`` if the classes are the manifest's speakers.
        sha256: hash of the table.
        known: what a model trained with them knows, for its provenance: ``speakers``, pseudo-speakers of
            which model, or the table.
        named: hash of the classes' names; another hash means that a class number is another class.
    """

    numbers: npt.NDArray[np.int64]
    count: int
    file: Path | None = None
    sha256: str | None = None
    known: tuple[str, ...] = ("speakers",)
    named: str = ""

    def require_all(self, who: str, ids: Sequence[str]) -> None:
        """Raise an error if an utterance has no class; ``who`` needs classes, ``ids`` name the utterances."""
        missing = np.flatnonzero(self.numbers < 0)
        if len(missing):
            examples = _examples(len(missing), (ids[n] for n in missing[:3].tolist()))
            raise CorpusError(
                f"{who} needs a class for every utterance: {self.file or 'the speaker column'} has none for "
                f"{examples} of {len(ids):,}; add them, remove these utterances from the manifest, or train "
                "supervised_gcl, which does not need all"
            )


def find_classes(corpus: Corpus, file: Path | None) -> Classes:
    """Return a corpus's classes: from a table or, without one, its speakers.

    Raises:
        CorpusError: as for :func:`read_classes`.
    """
    if file is not None:
        return read_classes(file, corpus.ids)
    names = list(corpus.speaker_names)
    return Classes(
        corpus.speakers.astype(np.int64),
        int(corpus.speakers.max(initial=-1)) + 1,
        known=tuple(known_as(names)),
        named=_named(names),
    )


def read_classes(file: Path, ids: Sequence[str]) -> Classes:
    """Read the classes of the utterances ``ids`` from a CSV with the columns ``id`` and ``class``.

    A manifest is such a table as well, with its column ``speaker``: one from ``idemvox label`` gives
    pseudo-speakers to the pack of the same utterances.

    Rows may have any order, and a class is any text. An utterance that is not in the table, or has an empty
    class, has none.

    Raises:
        CorpusError: the table cannot be read, has another header, or names an utterance twice or an unknown
            one.
    """
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read data.labels={file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not CSV in UTF-8 ({error}); save it as UTF-8 CSV") from error
    class_of: dict[str, str] = {}
    for line, name, value in _rows(file, text):
        if name in class_of:
            raise CorpusError(f"{file}, line {line}: a second class for {name!r}; keep only one")
        class_of[name] = value
    _refuse_unknown(file, class_of, ids)
    names = sorted({value for value in class_of.values() if value})
    number = {name: n for n, name in enumerate(names)} | {"": -1}
    numbers = np.array([number[class_of.get(name, "")] for name in ids], np.int64)
    sha256 = hashlib.sha256(content).hexdigest()
    pseudo = tuple(known_as(filter(is_pseudo, names)))
    known = pseudo if pseudo and all(map(is_pseudo, names)) else (table_name(file, sha256), *pseudo)
    return Classes(numbers, len(names), file, sha256, known, _named(names))


def table_name(file: Path, sha256: str) -> str:
    """Return what provenance calls a table of classes."""
    return f"classes: {file.name}, sha256 {sha256[:12]}"


def _named(names: Sequence[str]) -> str:
    """Return the SHA-256 of class names."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _rows(file: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line number, id and class of every row."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        columns = PSEUDO if "class" not in header else COLUMNS
        if not set(columns) <= set(header):
            raise CorpusError(
                f"{file}, line 1: no columns 'id' and 'class' (found {', '.join(header) or 'nothing'}); "
                "give it the header id,class"
            )
        of_id, of_class = map(header.index, columns)
        for row in filter(None, reader):
            if len(row) != len(header):
                counts = f"{len(row)} fields where the header has {len(header)}"
                raise CorpusError(f"{file}, line {reader.line_num}: {counts}; quote commas")
            yield reader.line_num, row[of_id], row[of_class].strip()
    except csv.Error as error:
        raise CorpusError(f"{file}, line {reader.line_num}: {error}; save it as CSV") from error


def _refuse_unknown(file: Path, named: Collection[str], ids: Sequence[str]) -> None:
    unknown = set(named).difference(ids)
    if unknown:
        examples = _examples(len(unknown), islice(sorted(unknown), 3))
        raise CorpusError(
            f"{file}: {examples} of its {len(named):,} ids are not among the {len(ids):,} utterances of "
            "data.manifest; use the ids of that manifest (with several manifests, CORPUS/id)"
        )


def _examples(count: int, names: Iterator[str]) -> str:
    """Return the count of utterances with the first names."""
    first = ", ".join(names)
    return f"{count:,} ({first}{', ...' if count > 3 else ''})"
