"""How much memory and time the verifier takes for long files.

    python benchmarks/long_file.py [--hours 10] [--quick]

Five minutes of real speech (simulated without the corpora) are repeated and written as FLAC at 16 kHz, mono:
one file of a minute and one of `--hours`. Each file is embedded by a new process with a small, untrained Fast
ResNet-34, on one thread. "MiB" is the peak memory of that process. "Over a minute" is how much more that is
than for the file of one minute. Files of up to 3 minutes are decoded once, longer ones twice.

Only the powers of the 10-ms frames, in which speech is found, grow with the length. "Frames alone" is the
peak memory of finding speech in ten hours of frames, as counted by tracemalloc, without the audio.

Writes docs/results/long_file.{md,json}.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from rich.console import Console

from common import measuring, publish
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.audio.speech import Activity
from idemvox.audio.speech import speech as speech_of

HOURS = (1 / 60,)


def speech(minutes: float) -> np.ndarray:
    """Return so many minutes of real speech, or of simulated syllables where the corpora are absent."""
    folder = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora"), "speech/librispeech")
    waves, wanted = [np.zeros(0, np.float32)], round(60 * minutes * SAMPLE_RATE)
    for path in sorted(folder.rglob("*.opus")):
        if sum(map(len, waves)) >= wanted:
            break
        waves.append(read(path))
    if len(waves) == 1:
        at = np.arange(wanted) / SAMPLE_RATE
        voice = np.sin(2 * np.pi * 110 * at) + np.sin(2 * np.pi * 220 * at)
        waves.append((0.1 * voice * np.abs(np.sin(2 * np.pi * 2 * at))).astype(np.float32))
    return np.concatenate(waves)[:wanted]


def write(path: Path, wave: np.ndarray, hours: float, rate: int, channels: int) -> None:
    """Write ``hours`` of a wave, repeated."""
    if rate != SAMPLE_RATE:
        wave = np.asarray(soxr.resample(wave, SAMPLE_RATE, rate), np.float32)
    samples = np.stack([wave] * channels, axis=1)
    left = round(3600 * hours * rate)
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16", format="FLAC") as file:
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)


def child(path: str) -> None:
    """Embed a file; print its time and memory."""
    import torch

    from idemvox.encoders.fast_resnet34 import FastResNet34
    from idemvox.verification.scoring import Scorer
    from idemvox.verifier.verifier import Verifier

    torch.manual_seed(0)
    torch.set_num_threads(1)
    verifier = Verifier(FastResNet34(FastResNet34.Options(**FastResNet34.tiny)), Scorer())
    began = time.perf_counter()
    voice = verifier.hear(path)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "MiB": peak, "speech": voice.facts.speech}))


def measure(wave: np.ndarray, hours: float, rate: int, channels: int, folder: Path) -> dict[str, Any]:
    """Return the row of one file."""
    path = folder / "long.flac"
    write(path, wave, hours, rate, channels)
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(path)], stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(done.stdout)
    kind = f"{rate / 1000:g} kHz, {channels} channel{'s' * (channels > 1)}"
    name = f"{hours:g} h" if hours >= 1 else f"{60 * hours:g} min"
    return {
        "system": name,
        "trials": kind,
        "MiB": round(found["MiB"]),
        "seconds": round(found["seconds"], 1),
        "times real time": round(3600 * hours / found["seconds"]),
        "hours of speech": round(found["speech"] / 3600, 2),
    }


def frames_alone(hours: float) -> float:
    """Return the peak memory, in MiB, of finding speech in the frames of so many hours."""
    at = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    activity = Activity(SAMPLE_RATE)
    tracemalloc.start()
    block = np.random.default_rng(0).standard_normal(len(at)) * np.sin(4 * at) ** 2
    activity.feed((0.1 * block).astype(np.float32))
    one = activity.powers
    frames = Activity(SAMPLE_RATE)
    frames._powers = [one.copy() for _ in range(round(360 * hours))]
    found = speech_of(frames.powers)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert len(found)
    return peak


def main() -> None:
    """Run the benchmark."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
        return
    parser = measuring(__doc__, quick="up to 10 minutes; writes nothing")
    parser.add_argument("--hours", type=float, default=10.0)
    given = parser.parse_args()
    wave, console = speech(5), Console()
    longest = 1 / 6 if given.quick else given.hours
    files = [(hours, SAMPLE_RATE, 1) for hours in HOURS if hours < longest]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for hours, rate, channels in [*files, (longest, SAMPLE_RATE, 1)]:
            row = measure(wave, hours, rate, channels, Path(folder))
            row["over a minute"] = row["MiB"] - (rows[0] if rows else row)["MiB"]
            rows.append(row)
            console.print(row)
    alone = {"system": "10 h", "trials": "frames alone", "MiB": round(frames_alone(10))}
    rows.append(alone)
    console.print(alone)
    if not given.quick:
        publish(given.out, "long_file", "Long files", __doc__ or "", rows)


if __name__ == "__main__":
    main()
