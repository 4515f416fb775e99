"""The classes that supervised training tells apart: the manifest's speakers, or a table of its own."""

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
from idemvox.errors import CorpusError

__all__ = ["Classes", "find_classes", "read_classes"]

COLUMNS = ("id", "class")


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """A class for each of N utterances; what learns is given the numbers alone.

    Attributes:
        numbers: (N,) int64, in order of the classes' names; -1 where unknown.
        count: of classes.
        file: the table they are from; ``None``: they are the manifest's speakers.
        sha256: of the table.
    """

    numbers: npt.NDArray[np.int64]
    count: int
    file: Path | None = None
    sha256: str | None = None

    def require_all(self, who: str, ids: Sequence[str]) -> None:
        """Refuse utterances without a class; ``who`` needs one for every one, ``ids`` are their names."""
        missing = np.flatnonzero(self.numbers < 0)
        if len(missing):
            some = _some(len(missing), (ids[n] for n in missing[:3].tolist()))
            raise CorpusError(
                f"{who} needs a class for every utterance: {self.file or 'the speaker column'} has none for "
                f"{some} of {len(ids):,}; add them, leave these utterances out of the manifest, or train "
                "supervised_gcl, which makes do without some"
            )


def find_classes(corpus: Corpus, file: Path | None) -> Classes:
    """Return a corpus's classes: those of a table or, without one, its speakers.

    Raises:
        CorpusError: as :func:`read_classes`.
    """
    if file is not None:
        return read_classes(file, corpus.ids)
    return Classes(corpus.speakers.astype(np.int64), int(corpus.speakers.max(initial=-1)) + 1)


def read_classes(file: Path, ids: Sequence[str]) -> Classes:
    """Read a CSV with the columns ``id`` and ``class``, in any order of rows, for the utterances ``ids``.

    A class is any text.  An utterance that is not in the table, or whose class is empty, has none.

    Raises:
        CorpusError: if it cannot be read, has another header, names an utterance twice, or one that there
            is not.
    """
    try:
        content = file.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CorpusError(f"cannot read data.labels={file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not CSV in UTF-8 ({error}); save it as that") from error
    class_of: dict[str, str] = {}
    for line, name, value in _rows(file, text):
        if name in class_of:
            raise CorpusError(f"{file}, line {line}: a second class for {name!r}; keep one")
        class_of[name] = value
    _refuse_unknown(file, class_of, ids)
    names = sorted({value for value in class_of.values() if value})
    number = {name: n for n, name in enumerate(names)} | {"": -1}
    numbers = np.array([number[class_of.get(name, "")] for name in ids], np.int64)
    return Classes(numbers, len(names), file, hashlib.sha256(content).hexdigest())


def _rows(file: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, id and class of every row."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        if not set(COLUMNS) <= set(header):
            raise CorpusError(
                f"{file}, line 1: no columns 'id' and 'class' (found {', '.join(header) or 'nothing'}); "
                "give it the header id,class"
            )
        of_id, of_class = map(header.index, COLUMNS)
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
        some = _some(len(unknown), islice(sorted(unknown), 3))
        raise CorpusError(
            f"{file}: {some} of its {len(named):,} ids are not among the {len(ids):,} utterances of "
            "data.manifest; use the ids of that manifest (where there are several, CORPUS/id)"
        )


def _some(count: int, names: Iterator[str]) -> str:
    """Count utterances and name the first ones."""
    first = ", ".join(names)
    return f"{count:,} ({first}{', ...' if count > 3 else ''})"
