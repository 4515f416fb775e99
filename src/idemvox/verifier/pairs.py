"""Verdicts on many pairs: each file is embedded once, and a broken one spoils only its own pairs."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import atomic_write
from idemvox.progress import task_bar
from idemvox.verifier.verdict import Verdict
from idemvox.verifier.verifier import Verifier, Voice

__all__ = ["PairVerdict", "load_pairs", "verify_pairs", "write_pairs"]

Pair = tuple[str, str]
COLUMNS = (
    *("first", "second", "decision", "score", "llr", "threshold", "first_speech", "second_speech"),
    *("reasons", "warnings", "error"),
)


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """The result for one pair.

    Attributes:
        first, second: the paths as given.
        verdict: ``None`` if a file cannot be read.
        error: why not; empty with a verdict.
    """

    first: str
    second: str
    verdict: Verdict | None
    error: str = ""

    @property
    def decision(self) -> str:
        """The verdict's decision, or "error"."""
        return "error" if self.verdict is None else self.verdict.decision

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        known = {"error": self.error} if self.verdict is None else self.verdict.to_dict()
        return {"first": self.first, "second": self.second, **known, "decision": self.decision}

    def row(self) -> dict[str, Any]:
        """Return the result as a row of :data:`COLUMNS`; what is unknown is empty."""
        row: dict[str, Any] = {"first": self.first, "second": self.second, "decision": self.decision}
        if (verdict := self.verdict) is None:
            return row | {"error": self.error}
        return row | {
            "score": verdict.score,
            "llr": verdict.llr,
            "threshold": None if verdict.threshold is None else verdict.threshold.llr,
            "first_speech": verdict.speech[0],
            "second_speech": verdict.speech[1],
            "reasons": "; ".join(verdict.reasons),
            "warnings": "; ".join(verdict.warnings),
        }


def load_pairs(path: str | Path) -> list[Pair]:
    """Read a CSV with the columns ``first`` and ``second``; other columns are ignored.

    Raises:
        CorpusError: there is no such file, a column is missing, or a row has an empty path.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"first", "second"} <= set(rows.fieldnames or ()):
                have = ", ".join(rows.fieldnames or ()) or "nothing"
                raise CorpusError(f"{path} needs the columns first and second, but has: {have}")
            pairs = [(row["first"] or "", row["second"] or "") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"cannot read the pairs in {path}: {error}") from error
    for number, pair in enumerate(pairs, 2):
        if not all(pair):
            raise CorpusError(f"line {number} of {path} needs two paths")
    return pairs


def verify_pairs(
    verifier: Verifier,
    pairs: Sequence[Pair],
    root: str | Path = ".",
    *,
    false_accept_rate: float = 0.01,
    progress: bool = False,
) -> list[PairVerdict]:
    """Decide on many pairs of files; each file is decoded and embedded once.

    Args:
        verifier: the model and its limits.
        pairs: paths, absolute or relative to ``root``.
        root: a folder.
        false_accept_rate: as for :meth:`Verifier.verify`.
        progress: show a progress bar.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    heard: dict[str, Voice | IdemvoxError] = {}
    with task_bar("embedding", len(names), progress) as bar:
        for name in names:
            try:
                heard[name] = verifier.hear(Path(root, name))
            except IdemvoxError as error:
                heard[name] = error
            bar.advance(bar.task_ids[0])
    results = []
    for pair in pairs:
        first, second = heard[pair[0]], heard[pair[1]]
        if isinstance(first, Voice) and isinstance(second, Voice):
            verdict = verifier.compare(first, second, false_accept_rate=false_accept_rate)
            results.append(PairVerdict(*pair, verdict))
        else:
            errors = dict.fromkeys(str(side) for side in (first, second) if isinstance(side, IdemvoxError))
            results.append(PairVerdict(*pair, None, "; ".join(errors)))
    return results


def write_pairs(path: str | Path, results: Iterable[PairVerdict]) -> None:
    """Write results as CSV, atomically."""
    with atomic_write(path) as file:
        rows = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        rows.writeheader()
        rows.writerows(result.row() for result in results)
