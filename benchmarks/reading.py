"""How close random crops of a pack come to reading it from end to end, and what a million utterances cost.

    python benchmarks/reading.py [--rounds 7] [--gib 1] [--quick]

Reading alone, in one process: 2-second crops (64 KB) of random utterances at random positions. The limit is
the same shards read in order, 1 MiB at a time, into one buffer. Both are read from the page cache, and both
from the disk (the shards are dropped from the cache before each round). Ratios are taken within a round, and
their median is given.

* page cache, crops: into one buffer, like the limit; "into batches": into the rows of batches of 256.
* disk, crops: one read at a time, and with 16 threads, because a disk needs several reads in flight.
* memory, copy: NumPy copies an array of the size of the pack into one buffer, 1 MiB at a time.
* N rows: an index of N rows that refer repeatedly to the same shards. "opening ms" is measured in a process
  of its own, and "index mb" is how much that process grows when it reads the whole index and the labels.

Writes docs/results/reading.{md,json}.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.console import Console

from common import in_turn, measuring, publish, times
from idemvox.audio.read import SAMPLE_RATE
from idemvox.corpus.corpus import open_corpus
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.packs.packed import HEADER, IDS, INDEX, RECORDINGS, SPEAKERS, PackedSource
from idemvox.files import write_json

CROP = 2 * SAMPLE_RATE
BLOCK = 1 << 20
BATCH = 256
THREADS = 16
Rate = dict[str, list[float]]


def make_pack(folder: Path, gib: float) -> Path:
    """Pack ``gib`` GiB of noise, cut into utterances of 3 to 20 s."""
    rng = np.random.default_rng(0)
    seconds = int(gib * 2**29 / SAMPLE_RATE)
    minute = rng.integers(-9000, 9000, 60 * SAMPLE_RATE, dtype=np.int16)
    with soundfile.SoundFile(folder / "noise.wav", "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for _ in range(seconds // 60 + 1):
            file.write(np.roll(minute, int(rng.integers(len(minute)))))
    rows: list[Utterance] = []
    at = 0.0
    while at < seconds - 20:
        length = round(float(rng.uniform(3, 20)), 3)
        number = len(rows)
        rows.append(
            Utterance(str(number), "noise.wav", length, speaker=f"s{number % 99}", recording="r", start=at)
        )
        at = round(at + length, 3)
    save_manifest(Manifest(rows, folder), folder / "manifest.csv")
    pack(folder / "manifest.csv", folder / "pack", progress=False)
    (folder / "noise.wav").unlink()
    return folder / "pack"


def repeated(base: Path, folder: Path, rows: int) -> Path:
    """Make a pack of so many rows that refer repeatedly to the shards of another pack."""
    source = PackedSource(base)
    folder.mkdir()
    for name in (*source.header.shards, SPEAKERS, RECORDINGS):
        os.link(base / name, folder / name)
    np.save(folder / INDEX, source.index[np.random.default_rng(rows).integers(0, len(source), rows)])
    (folder / IDS).write_text("".join(f"utterance-{number:07}\n" for number in range(rows)))
    write_json(folder / HEADER, replace(source.header, utterances=rows).to_json())
    return folder


def places(source: PackedSource, count: int, seed: int) -> list[tuple[int, int]]:
    """Draw utterances, and the start of a crop in each."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, len(source), count)
    starts = rng.integers(0, source.lengths[ids] - CROP + 1)
    return list(zip(ids.tolist(), starts.tolist(), strict=True))


def crops(source: PackedSource, wanted: list[tuple[int, int]], batch: int = 1) -> None:
    """Read crops into the rows of batches, one after the other."""
    out = np.empty((batch, CROP), np.int16)
    for number, (index, start) in enumerate(wanted):
        source.read_into(index, start, out[number % batch])


def spread(source: PackedSource, wanted: list[tuple[int, int]]) -> None:
    """Read crops in several threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda n: crops(source, wanted[n::THREADS]), range(THREADS)))


def straight(files: list[Path]) -> None:
    """Read the shards from end to end."""
    buffer = np.empty(BLOCK, np.uint8)
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        position = 0
        while got := os.preadv(descriptor, (buffer.data,), position):
            position += got
        os.close(descriptor)


def copy(memory: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Copy memory block by block."""
    buffer = np.empty(BLOCK, np.uint8)
    for position in range(0, len(memory), BLOCK):
        block = memory[position : position + BLOCK]
        buffer[: len(block)] = block


def drop(files: list[Path]) -> None:
    """Drop the shards from the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def from_disk(ways: dict[str, tuple[Callable[[], object], float]], files: list[Path], rounds: int) -> Rate:
    """Time every variant in every round, each with an empty page cache."""
    rates: Rate = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (run, things) in ways.items():
            drop(files)
            began = time.perf_counter()
            run()
            rates[name].append(things / (time.perf_counter() - began))
    return rates


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opening(folder: Path) -> None:
    """Open a pack and print how long that took, and how much memory it needs."""
    before = resident()
    began = time.perf_counter()
    corpus = open_corpus(folder)
    seconds = time.perf_counter() - began
    corpus.source.lengths.sum()
    Console().print_json(json.dumps({"seconds": seconds, "bytes": resident() - before}))


def opened(folder: Path) -> dict[str, float]:
    """Open a pack in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(folder)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def shares(rates: Rate, limit: str, size: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each variant: GB/s by round, and its share of the limit."""
    return [
        {
            "system": name,
            "gb_per_second": [size[name] * rate / 1e9 for rate in rates[name]],
            "share_of_the_limit": times(rates, name, limit) * size[name] / size[limit],
        }
        for name in rates
    ]


def by_rows(base: Path, scratch: Path, counts: list[int], wanted: int, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each size of index."""
    folders = {count: repeated(base, scratch / str(count), count) for count in counts}
    sources = {count: PackedSource(folder) for count, folder in folders.items()}
    drawn = {count: places(source, wanted, 1) for count, source in sources.items()}
    rates = in_turn(
        {f"{count:,} rows": (lambda c=count: crops(sources[c], drawn[c]), float(wanted)) for count in counts},
        rounds,
    )
    rows = []
    for count in counts:
        found = [opened(folders[count]) for _ in range(3)]
        name = f"{count:,} rows"
        rows.append(
            {
                "system": name,
                "us_per_crop": [1e6 / rate for rate in rates[name]],
                "times_the_first": 1 / times(rates, name, f"{counts[0]:,} rows"),
                "opening_ms": 1e3 * statistics.median(f["seconds"] for f in found),
                "index_mb": statistics.median(f["bytes"] for f in found) / 1e6,
            }
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, rounds=7)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the pack")
    parser.add_argument("--scratch", type=Path, help="folder on the disk to measure; default: the system's")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open is not None:
        opening(args.open)
        return
    rounds, gib = (2, 0.06) if args.quick else (args.rounds, args.gib)
    count = int(gib * 2**30 / (2 * CROP))  # as many bytes as the pack has
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        scratch = Path(name)
        base = make_pack(scratch, gib)
        source = PackedSource(base)
        files = [base / shard for shard in source.header.shards]
        size = float(sum(source.header.shards.values()))
        wanted = places(source, count, 0)
        memory = np.random.default_rng(0).integers(0, 256, int(size), dtype=np.uint8)
        limit = "page cache, sequential: the limit"
        warm = in_turn(
            {
                limit: (lambda: straight(files), size),
                "page cache, crops": (lambda: crops(source, wanted), float(count)),
                "page cache, crops into batches": (lambda: crops(source, wanted, BATCH), float(count)),
                "memory, copy": (lambda: copy(memory), size),
            },
            rounds,
        )
        disk_limit = "disk, sequential: the limit"
        cold = from_disk(
            {
                disk_limit: (lambda: straight(files), size),
                "disk, crops": (lambda: crops(source, wanted), float(count)),
                f"disk, crops, {THREADS} threads": (lambda: spread(source, wanted), float(count)),
            },
            files,
            rounds,
        )
        each = {name: 1.0 if "crops" not in name else 2.0 * CROP for name in (*warm, *cold)}
        rows = shares(warm, limit, each) + shares(cold, disk_limit, each)
        counts = [1_000, 10_000, 100_000] + ([] if args.quick else [1_000_000])
        rows += by_rows(base, scratch, counts, count, rounds)
    console = Console()
    for row in rows:
        shown = {
            k: statistics.median(v) if isinstance(v, list) else v for k, v in row.items() if k != "system"
        }
        console.print(f"{row['system']:<36}", *(f"{v:9.3f} {k.replace('_', ' ')}" for k, v in shown.items()))
    if not args.quick:
        publish(
            args.out,
            "reading",
            "Reading: random crops of a pack",
            __doc__ or "",
            rows,
            per="round",
        )


if __name__ == "__main__":
    main()
