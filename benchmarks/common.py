"""Helpers of the benchmarks: options, the corpora, fair timing on a busy machine, results pages."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from idemvox.processes import command_line
from idemvox.reports.results import write_results


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the docstring of a benchmark."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def measuring(
    doc: str | None, rounds: int | None = None, quick: str = "a small part of the work; writes nothing"
) -> argparse.ArgumentParser:
    """Return a parser with the common options: --quick, --out and, given a default, --rounds."""
    made = parser_of(doc)
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--out", type=Path, default=Path("docs/results"))
    return made


def corpora() -> Path:
    """Return the folder of the corpora; exit with a message if there are none."""
    folder = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora")).resolve()
    if not (folder / "manifest.csv").is_file():
        sys.exit(f"no corpora in {folder}: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    return folder


def in_turn(ways: Mapping[str, tuple[Callable[[], object], float]], rounds: int) -> dict[str, list[float]]:
    """Time every variant in every round, after one run to warm up: name -> items per second, by round.

    Args:
        ways: name -> function to time, and how many items one call processes.
        rounds: number of rounds; in each, all variants run one after the other, so that a slow moment of the
            machine affects them equally.
    """
    for run, _ in ways.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (run, things) in ways.items():
            began = time.perf_counter()
            run()
            rates[name].append(things / (time.perf_counter() - began))
    return rates


def times(rates: Mapping[str, list[float]], name: str, base: str) -> float:
    """Return how many times as fast one variant is as another: the median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))


def description(doc: str) -> str:
    """Return the part of a benchmark's docstring that goes into its results page."""
    return doc.split("\n\n", 2)[2].rsplit("\n\n", 1)[0]


def publish(
    folder: Path,
    name: str,
    title: str,
    doc: str,
    rows: Sequence[Mapping[str, Any]],
    notes: str = "",
    **more: Any,
) -> None:
    """Write NAME.json and NAME.md, with the docstring between its usage and its last paragraph."""
    command = f"python benchmarks/{command_line()}"
    write_results(folder, name, title, command, rows, description(doc) + notes, **more)
