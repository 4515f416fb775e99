"""Are the results the same after kill -9? `idemvox prepare` and `idemvox pack`, killed at random moments.

    python benchmarks/killed.py [--kills 20] [--files 300] [--quick]

Each command first runs without interruption on real speech (the dev split in IDEMVOX_CORPORA; noise if there
are no corpora). Then it is run again the given number of times. Each time it is killed (SIGKILL) at a moment
drawn uniformly from the duration of the uninterrupted run and started again with the same command; every
other run is killed a second time. The result is compared byte by byte with that of the uninterrupted run.

Writes docs/results/killed.{md,json}.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console
from rich.progress import track

from common import measuring, publish

IDEMVOX = (sys.executable, "-m", "idemvox.cli")
Command = Callable[[Path], list[str]]


def listed(scratch: Path, most: int) -> Path:
    """Write a table of at most so many files of real speech, or of noise if there are no corpora."""
    corpora = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora")).resolve()
    table = scratch / "table.csv"
    if (corpora / "manifest.csv").is_file():
        header, *lines = (corpora / "manifest.csv").read_text(encoding="utf-8").splitlines()
        split = header.split(",").index("split")
        rows = [f"{corpora}/{line}" for line in lines if line.split(",")[split] == "dev"]
    else:
        header, rows = "path", []
        rng = np.random.default_rng(0)
        for number in range(1500):
            path = scratch / "noise" / f"{number:04}.flac"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, 0.1 * rng.standard_normal(int(rng.integers(40_000, 100_000))), 16000)
            rows.append(str(path))
    table.write_text("\n".join([header, *rows[:most]]) + "\n", encoding="utf-8")
    return table


def content(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(command: list[str], seconds: float | None = None) -> bool:
    """Run a command, or kill it after a time; return whether it finished."""
    with subprocess.Popen([*IDEMVOX, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return False
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {errors.decode()}")
    return True


def journalled(folder: Path) -> int:
    """Return the number of lines in the journal of a killed run."""
    files = [path for path in folder.rglob("*") if path.name == "journal" or path.suffix == ".partial"]
    return sum(path.read_bytes().count(b"\n") for path in files)


def trial(name: str, command: Command, scratch: Path, kills: int) -> dict[str, Any]:
    """Run a command uninterrupted and killed; return its row."""
    whole = scratch / name / "whole"
    whole.mkdir(parents=True)
    began = time.perf_counter()
    run(command(whole))
    seconds = time.perf_counter() - began
    expected = content(whole)
    rng = random.Random(0)
    same, after, done = 0, [], []
    for number in track(range(kills), f"killing {name}", console=Console(stderr=True)):
        folder = scratch / name / f"k{number:04}"
        folder.mkdir()
        moments = [rng.uniform(0, seconds) for _ in range(1 + number % 2)]
        for moment in moments:
            if not run(command(folder), moment):
                after.append(moment)
                done.append(journalled(folder))
        run(command(folder))
        same += content(folder) == expected
    return {
        "system": name,
        "kills": len(after),
        "runs": kills,
        "identical": same,
        "uninterrupted_seconds": seconds,
        "killed_after_seconds": after,
        "journal_lines_when_killed": done,
    }


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, quick="few files, few kills; writes nothing")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--files", type=int, default=300, help="number of files to prepare and pack")
    args = parser.parse_args()
    kills, most = (3, 60) if args.quick else (args.kills, args.files)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        table, manifest = listed(scratch, most), scratch / "manifest.csv"
        run(["prepare", "table", str(table), "--out", str(manifest), "-q"])
        rows = [
            trial(
                "prepare",
                lambda folder: ["prepare", "table", str(table), "--out", str(folder / "m.csv"), "-q"],
                scratch,
                kills,
            ),
            trial(
                "pack",
                lambda folder: ["pack", str(manifest), str(folder / "p"), "--shard-gib", "0.05", "-q"],
                scratch,
                kills,
            ),
        ]
    console = Console()
    for row in rows:
        console.print(
            f"{row['system']:<8} {row['runs']} runs, {row['kills']} kills after "
            f"{statistics.median(row['killed_after_seconds'] or [0.0]):.1f} s (median) of "
            f"{row['uninterrupted_seconds']:.1f} s: {row['identical']} of {row['runs']} byte-identical"
        )
    if not args.quick:
        publish(
            args.out,
            "killed",
            "Killed and started again",
            __doc__ or "",
            rows,
            per="kill",
        )
    if any(row["identical"] != row["runs"] for row in rows):
        sys.exit("some results differ")


if __name__ == "__main__":
    main()
