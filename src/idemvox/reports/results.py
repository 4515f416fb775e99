"""Result files to commit: numbers for each seed, with the command and the machine."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write, write_json
from idemvox.verification.report import library_versions

__all__ = ["machine", "write_results"]

Row = Mapping[str, Any]
_HEADINGS = {
    "system": "system",
    "trials": "trials",
    "eer": "EER %",
    "mindcf_001": "minDCF p=0.01",
    "mindcf_005": "minDCF p=0.05",
}


def machine() -> dict[str, Any]:
    """Return this machine's ``cpu`` (model), ``cores``, ``memory_gib`` and ``gpu`` (model or ``None``)."""
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def write_results(
    folder: str | Path,
    name: str,
    title: str,
    command: str,
    rows: Sequence[Row],
    notes: str = "",
    where: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    per: str = "seed",
) -> tuple[Path, Path]:
    """Write ``NAME.json`` (all numbers) and ``NAME.md`` (a table), each atomically.

    Args:
        folder: created if missing.
        name: name of both files, without suffix.
        title: heading of the table.
        command: the command that reproduces the numbers, with paths as a reader would write them.
        rows: one per system and trial list: ``{"system": str, "trials": str, "eer": [one per seed], ...}``;
            timings have no trials.
            A list of numbers holds one value per seed and is shown as mean, sample standard deviation and all
            values; anything else is shown unchanged. ``eer`` and keys that start with ``eer_`` hold fractions
            and are shown in per cent, except ``eer_threshold``.
        notes: text below the table, such as what the trials are and which recordings are simulated.
        where: the machine; default: this one, from :func:`machine`.
        extra: further keys of the JSON file.
        per: what the values of a list are, such as ``"round"``.

    Returns:
        The paths of both files.
    """
    if not rows:
        raise IdemvoxError(f"no results to write to {name}")
    for row in rows:
        scored = any(key.startswith(("eer", "mindcf")) for key in row)
        if not isinstance(row.get("system"), str) or (scored and not isinstance(row.get("trials"), str)):
            raise IdemvoxError(f"a results row needs the texts 'system' and 'trials', got {dict(row)}")
    place, versions = dict(where) if where is not None else machine(), library_versions()
    values = {
        "title": title,
        "command": command,
        "machine": place,
        "versions": versions,
        "rows": [dict(row) for row in rows],
        "notes": notes,
        **(extra or {}),
    }
    as_json, as_text = Path(folder) / f"{name}.json", Path(folder) / f"{name}.md"
    write_json(as_json, values)
    with atomic_write(as_text) as file:
        file.write(_markdown(title, command, rows, notes, place, versions, per))
    return as_json, as_text


def _markdown(
    title: str,
    command: str,
    rows: Sequence[Row],
    notes: str,
    place: Mapping[str, Any],
    versions: Mapping[str, str],
    per: str,
) -> str:
    present = dict.fromkeys(key for row in rows for key in row)
    keys = [key for key in _HEADINGS if key in present] + [key for key in present if key not in _HEADINGS]
    numeric = [any(isinstance(row.get(key), int | float | list | tuple) for row in rows) for key in keys]
    lines = [
        _line(_heading(key) for key in keys),
        _line("---:" if number else "---" for number in numeric),
        *(_line(_cell(key, row.get(key)) for key in keys) for row in rows),
    ]
    several = any(_per_seed(value) and len(value) > 1 for row in rows for value in row.values())
    legend = f"Mean ± sample standard deviation over {per}s; in brackets, each {per}.\n\n" if several else ""
    text = f"# {title}\n\n```\n{command}\n```\n\n" + "\n".join(lines) + f"\n\n{legend}"
    if notes:
        text += notes.strip() + "\n\n"
    cores = f"{place.get('cores')} cores" if place.get("cores") != 1 else "1 core"
    parts = [
        str(place.get("cpu")),
        cores,
        f"{place.get('memory_gib')} GiB",
        f"GPU: {place.get('gpu') or 'none'}",
    ]
    return (
        text
        + f"Machine: {', '.join(parts)}.\n"
        + f"Versions: {', '.join(' '.join(v) for v in versions.items())}.\n"
    )


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _percent(key: str) -> bool:
    return (key == "eer" or key.startswith("eer_")) and key != "eer_threshold"


def _heading(key: str) -> str:
    if key in _HEADINGS:
        return _HEADINGS[key]
    words = key.replace("_", " ")
    return f"EER{words[3:]} %" if _percent(key) else words


def _per_seed(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
    )


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if not _per_seed(value):
        if isinstance(value, list | tuple):
            return ", ".join(str(item) for item in value)
        return _number(key, value) if isinstance(value, float) else str(value)
    texts = [_number(key, item) for item in value]
    if len(value) == 1:
        return texts[0]
    mean, spread = statistics.fmean(value), statistics.stdev(value)
    return f"{_number(key, mean)} ± {_number(key, spread)} ({', '.join(texts)})"


def _number(key: str, value: float) -> str:
    if _percent(key):
        return f"{100 * value:.2f}"
    if key.startswith("mindcf"):
        return f"{value:.4f}"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
