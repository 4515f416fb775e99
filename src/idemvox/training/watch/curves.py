"""Learning curves: the epochs of a run's log as a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from idemvox.files import atomic_write

__all__ = ["read_log", "write_curves"]


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
        (folder / "curves.csv").unlink(missing_ok=True)
        return
    with atomic_write(folder / "curves.csv") as file:
        columns = dict.fromkeys(key for row in rows for key in row)
        table = csv.DictWriter(file, list(columns), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
