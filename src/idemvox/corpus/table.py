"""Candidates for a manifest, from any CSV that lists audio files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from idemvox.errors import CorpusError, unknown_name

__all__ = ["Candidate", "listed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to check, or a part of one, with the fields of its manifest row.

    Attributes:
        path: path relative to the root, or absolute.
        start: seconds from the start of the file.
        end: seconds from the start of the file; None for its end.
    """

    id: str
    path: str
    speaker: str | None = None
    recording: str | None = None
    start: float = 0.0
    end: float | None = None


def listed(file: Path, where: Mapping[str, str]) -> tuple[list[Candidate], int]:
    """Return the rows of a table that ``where`` selects, and the number of rows that only repeat one of them.

    Raises:
        CorpusError: there is no such file or no column ``path``, a column of ``where`` is missing or selects
            nothing, or a row has the wrong width, an empty id or path, or contradicts another.
    """
    candidates: dict[str, Candidate] = {}
    lines: dict[str, int] = {}
    repeats = 0
    values: dict[str, set[str]] = {column: set() for column in where}
    wanted = {column: {text, *map(str.strip, text.split(","))} for column, text in where.items()}
    for line, row in _rows(file, where):
        for column in where:
            values[column].add(row[column])
        if any(row[column] not in wanted[column] for column in where):
            continue
        name = row.get("id", row["path"])
        if not name or not row["path"]:
            empty = "id" if row["path"] else "path"
            raise CorpusError(f"{file}, line {line}: empty {empty}; fill it in or delete the row")
        new = Candidate(name, row["path"], row.get("speaker") or None, row.get("recording") or None)
        if candidates.setdefault(name, new) != new:
            raise CorpusError(
                f"{file}, line {line}: {name!r} is also on line {lines[name]}, with another path, speaker "
                "or recording; correct one, or add a column 'id' with different ids"
            )
        repeats += name in lines
        lines.setdefault(name, line)
    if not candidates:
        raise CorpusError(_none_chosen(file, where, values))
    return list(candidates.values()), repeats


def _rows(file: Path, where: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and fields of every row; check the header and the width of each row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if "path" not in header:
                have = ", ".join(header) or "nothing"
                raise CorpusError(f"{file}, line 1: no column 'path' (found {have}); give the table a header")
            for column in where:
                if column not in header:
                    raise unknown_name("column", column, header, CorpusError)
            for row in filter(None, reader):
                if len(row) != len(header):
                    counts = f"{len(row)} fields where the header has {len(header)}"
                    raise CorpusError(f"{file}, line {reader.line_num}: {counts}; quote commas")
                yield reader.line_num, dict(zip(header, row, strict=True))
    except OSError as error:
        raise CorpusError(f"cannot read the table {file}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{file} is not CSV in UTF-8 ({error}); save it as UTF-8 CSV") from error


def _none_chosen(file: Path, where: Mapping[str, str], values: Mapping[str, set[str]]) -> str:
    """Return the message for a table without selected rows."""
    if not any(values.values()):
        return f"{file} has no rows"
    asked = ", ".join(f"{column}={text}" for column, text in where.items())
    have = "; ".join(f"{column}: {', '.join(sorted(v)[:8])}" for column, v in values.items())
    return f"{file}: no row has {asked}; it has {have}"
