"""Scores of trials in Parquet files, and hashes that say which trials and files they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write
from idemvox.verification.evaluation import Scored

__all__ = ["Rows", "read_scores", "require_parquet", "trials_hash", "write_scores"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Trials and their scores, which is all that metrics are computed from.

    Attributes:
        labels, scores: (N,) as in :mod:`~idemvox.verification.metrics`.
        enrol, test: (N,) id of each side.
        sides: speakers of both sides, as numbers; ``None`` if they are not all known.
    """

    labels: NDArray[np.bool_]
    scores: NDArray[np.floating[Any]]
    enrol: Sequence[str]
    test: Sequence[str]
    sides: tuple[NDArray[Any], NDArray[Any]] | None


def require_parquet() -> None:
    """Raise an error that names the extra if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise IdemvoxError(
            "certificates need pyarrow for their scores: pip install 'idemvox[report]'"
        ) from error


def write_scores(path: Path, scored: Scored) -> None:
    """Write the trials with their scores, and the speakers of both sides as numbers if all are known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    trials = scored.trials
    ids = pa.array(trials.ids)
    columns = {
        "enrol": pa.DictionaryArray.from_arrays(trials.enrol_index, ids),
        "test": pa.DictionaryArray.from_arrays(trials.test_index, ids),
        "target": trials.labels,
        "score": scored.scores,
    }
    if (sides := scored.sides) is not None:
        columns |= {"enrol_speaker": sides[0].astype(np.int32), "test_speaker": sides[1].astype(np.int32)}
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(columns), file)


def read_scores(path: Path) -> Rows:
    """Read a file written by :func:`write_scores`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        enrol, test = (table[name].to_pylist() for name in ("enrol", "test"))
        speakers = [name for name in ("enrol_speaker", "test_speaker") if name in table.column_names]
        labels, scores, *sides = (table[name].to_numpy() for name in ("target", "score", *speakers))
        return Rows(labels, scores, enrol, test, (sides[0], sides[1]) if len(sides) == 2 else None)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise IdemvoxError(f"cannot read {path} ({error}): evaluate the model again") from error


def trials_hash(rows: Rows) -> str:
    """Return the SHA-256 of the lines ``label<TAB>id<TAB>id``: the same for any file with these trials."""
    digest = hashlib.sha256()
    for label, enrol, test in zip(rows.labels.tolist(), rows.enrol, rows.test, strict=True):
        digest.update(f"{int(label)}\t{enrol}\t{test}\n".encode())
    return digest.hexdigest()
