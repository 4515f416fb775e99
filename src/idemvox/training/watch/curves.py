"""Learning curves: the epochs of a run's log as a table."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import RunError
from idemvox.files import atomic_write

__all__ = ["CURVES_FILE", "read_curves", "read_log", "write_curves"]

CURVES_FILE = "curves.csv"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events of a ``log.jsonl``, empty if there is no log; a partial line is ignored."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events


def write_curves(folder: Path) -> None:
    """Write a run's ``curves.csv`` from its log: a row for each epoch, a column for each number."""
    rows = [
        {"epoch": event["at"], **{key: value for key, value in event.items() if key not in ("event", "at")}}
        for event in read_log(folder / "log.jsonl")
        if event["event"] == "epoch"
    ]
    if not rows:
        (folder / CURVES_FILE).unlink(missing_ok=True)
        return
    with atomic_write(folder / CURVES_FILE) as file:
        columns = dict.fromkeys(key for row in rows for key in row)
        table = csv.DictWriter(file, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_curves(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return each column of a run's ``curves.csv``: (epochs,), NaN where an epoch has no such number.

    Empty before the first epoch has ended.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / CURVES_FILE
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {
            name: np.array([float(row[name]) if row[name] else math.nan for row in rows])
            for name in (rows[0] if rows else ())
        }
    except (TypeError, ValueError, KeyError) as error:  # a UnicodeDecodeError is a ValueError
        raise RunError(
            f"{path} is damaged ({error}): delete it; resuming the run writes it again from its log"
        ) from error
