"""Reports of results on a trial list, with everything needed to reproduce them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from idemvox.card import write_card
from idemvox.errors import IdemvoxError, ModelError
from idemvox.files import atomic_write

__all__ = [
    "REPORT_FILE",
    "Report",
    "library_versions",
    "load_report",
    "reports_table",
    "store_report",
]

REPORT_FILE = "report.json"


@dataclass(frozen=True, slots=True)
class Report:
    """Results of one model on one trial list; rates are fractions, 0.05 for 5 %.

    Attributes:
        eer: the larger of the two error rates at the threshold where they are nearest, as usual in the field.
        eer_threshold: two recordings count as the same speaker if they score this or more.
        mindcf_001: normalised minDCF with p_target = 0.01 and both costs 1.
        mindcf_005: the same with p_target = 0.05.
        eer_low, eer_high: 95 % confidence interval by resampling speakers; ``None`` if speakers are unknown.
        model: provenance of the model.
        date: UTC, ISO 8601.
    """

    trials: str
    targets: int
    impostors: int
    eer: float
    eer_threshold: float
    mindcf_001: float
    mindcf_005: float
    eer_low: float | None = None
    eer_high: float | None = None
    scoring: str = "cosine"
    model: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Read the text written by :meth:`to_json`."""
        try:
            values = json.loads(text)
            known = {item.name for item in fields(cls)}
            return cls(**{name: value for name, value in values.items() if name in known})
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise ModelError(f"not an evaluation report ({error}); evaluate the model again") from error

    def table(self) -> Table:
        """Return a table of this report."""
        return reports_table([self])

    def eer_text(self) -> str:
        """Return the EER in per cent, with its interval if there is one: ``5.12 (3.9 to 6.8)``."""
        text = f"{100 * self.eer:.2f}"
        if self.eer_low is not None and self.eer_high is not None:
            text += f" ({100 * self.eer_low:.1f} to {100 * self.eer_high:.1f})"
        return text


def reports_table(reports: Iterable[Report]) -> Table:
    """Return one row per report, for the terminal."""
    rows = list(reports)
    notes = []
    if any(report.eer_low is not None for report in rows):
        notes.append("EER interval: 95 %, speakers resampled")
    if known := sorted({name for report in rows for name in report.model.get("known", [])}):
        notes.append(f"{' and '.join(known)} known in training")
    table = Table(caption="; ".join(notes) or None)
    table.add_column("trials")
    for heading in ("targets", "impostors", "EER %", "minDCF p=0.01", "minDCF p=0.05"):
        table.add_column(heading, justify="right", no_wrap=heading == "EER %")
    for r in rows:
        counts = (f"{r.targets:,}", f"{r.impostors:,}")
        table.add_row(r.trials, *counts, r.eer_text(), f"{r.mindcf_001:.4f}", f"{r.mindcf_005:.4f}")
    return table


def library_versions() -> dict[str, str]:
    """Return the versions of Python, idemvox, torch and NumPy."""
    versions = {"python": platform.python_version()}
    for package in ("idemvox", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def store_report(folder: str | Path, report: Report) -> Path:
    """Write ``report.json`` into a model folder, replacing an older one."""
    path = Path(folder) / REPORT_FILE
    with atomic_write(path) as file:
        file.write(report.to_json())
    write_card(Path(folder))
    return path


def load_report(folder: str | Path) -> Report | None:
    """Read the report stored with a model; ``None`` if the model has not been evaluated."""
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        return None
    try:
        return Report.from_json(path.read_text(encoding="utf-8"))
    except (IdemvoxError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error
