"""One short loan of a GPU: is training correct there, how fast is it, and what does SSPS gain at scale?

    python benchmarks/gpu.py [--minutes 8] [--out gpu-results] [--bundle FOLDER] [--device cuda] [--tiny]
        [--only STEP ...]

Each step is a process of its own with its own time limit. The most valuable steps come first, and steps for
which no time is left are skipped. A step updates OUT/STEP.json with every new result, so that a step that
fails or runs out of time still leaves what it has measured. OUT/log.txt has their output, OUT/plan.json how
each ended.

* peak: versions, the peak speed of a bf16 matrix product, the bandwidth of a copy.
* right: every framework with and without SSPS, on both encoders: losses and gradients on the GPU compared
  with the CPU, resuming bit for bit, torchrun with NCCL, and how often a step waits for the GPU.
* sizes: k-means and agglomeration of 1,092,009 vectors, and what SSPS adds to a step at that size.
* speed: training steps of the papers' recipes, eager and compiled, and the hours of whole schedules.
* study: benchmarks/ssps_gain.py on the speech of a bundle (benchmarks/gpu_bundle.py), several runs at once,
  for as long as there is time. The recordings are simulated in the background from the start.

``--device cpu --tiny`` runs every step in a minute or two without a GPU.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import parser_of
from idemvox.files import write_json

HERE = Path(__file__).resolve().parent
SHARES = {"peak": 0.1, "right": 0.16, "sizes": 0.12, "speed": 0.24, "study": 1.0}
"""Share of the whole time that a step may take; the last one gets the rest."""
CLOSING = 8.0  # seconds kept for the end
SHORTEST = 5.0  # seconds; with less time left, a step is not started


def command(step: str, args: Any, seconds: float) -> list[str]:
    """Return the command line of a step."""
    words = [
        sys.executable,
        str(HERE / "gpu_steps.py"),
        step,
        "--out",
        str(args.out),
        "--device",
        args.device,
    ]
    words += ["--seconds", f"{seconds:.0f}", *(["--tiny"] if args.tiny else [])]
    return words + (["--bundle", str(args.bundle)] if args.bundle else [])


def start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own; its output goes to the log."""
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def finish(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait so many seconds for a process, then end it; return how it ended."""
    try:
        code = process.wait(max(seconds, 0.1))
        return "done" if code == 0 else f"failed with exit code {code}: see log.txt"
    except subprocess.TimeoutExpired:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
        return "out of time; its results so far are written"


def main() -> None:
    """Run the steps."""
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--out", type=Path, default=Path("gpu-results"))
    parser.add_argument(
        "--bundle", type=Path, help="folder made by benchmarks/gpu_bundle.py; the study needs one"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="a small part of every step, to check that it runs"
    )
    parser.add_argument("--only", nargs="+", choices=list(SHARES), metavar="STEP")
    args = parser.parse_args()
    began, total = time.monotonic(), 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    log, ends = args.out / "log.txt", {}
    steps = [s for s in SHARES if (not args.only or s in args.only) and (s != "study" or args.bundle)]
    background = start(command("prepare", args, total), log) if "study" in steps else None
    running: subprocess.Popen[bytes] | None = None
    try:
        for step in steps:
            left = total - (time.monotonic() - began) - CLOSING
            limit = min(SHARES[step] * total, left)
            if limit < SHORTEST:
                ends[step] = {"end": "skipped: no time left"}
                continue
            at = time.monotonic()
            running = start(command(step, args, limit), log)
            ends[step] = {"end": finish(running, limit), "seconds": round(time.monotonic() - at, 1)}
            write_json(args.out / "plan.json", ends)
    finally:  # Ctrl-C too
        for process in (running, background):
            if process is not None and process.poll() is None:
                finish(process, 0)
        write_json(args.out / "plan.json", ends)
    for step, end in ends.items():
        sys.stdout.write(f"{step}: {end}\n")


if __name__ == "__main__":
    main()
