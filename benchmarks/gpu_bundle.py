"""Packs what benchmarks/gpu.py needs on a GPU machine without a network: missing packages, and speech.

    python benchmarks/gpu_bundle.py [--out gpu-bundle] [--python 3.12] [--packages soundfile pydantic ...]

The speech and the augmentation audio in ``IDEMVOX_CORPORA`` become Ogg Opus at 12 kbit/s in one tar file.
Each utterance is cut to its first 4.2 seconds, so that the folder stays below 60 MiB. Wheels of the packages
are downloaded for the given version of Python on Linux. On the GPU machine, pass the folder to
``benchmarks/gpu.py --bundle``.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av
import numpy as np
from rich.console import Console

from common import corpora, parser_of
from idemvox.audio.read import SAMPLE_RATE, read, to_pcm
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.prepare import prepare_table
from idemvox.errors import IdemvoxError

PACKAGES = [
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
    "typing-extensions",
    "soundfile",
    "cffi",
    "pycparser",
    "soxr",
    "lightning-fabric",
]
SECONDS, BITS = 4.2, 12_000
PER_VOICE = 120  # at most so many utterances of a voice of gcompris, which has the most
PLATFORMS = [f"manylinux_2_{n}_x86_64" for n in (17, 24, 27, 28, 31, 34)]
PLATFORMS += ["manylinux2014_x86_64", "manylinux1_x86_64"]


def opus(path: Path, seconds: float = SECONDS) -> bytes:
    """Return the beginning of a file as Ogg Opus."""
    pcm = to_pcm(read(path))[: int(seconds * SAMPLE_RATE)]
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = BITS
        for start in range(0, len(pcm), SAMPLE_RATE):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(pcm[None, start : start + SAMPLE_RATE]), format="s16", layout="mono"
            )
            frame.rate, frame.pts = SAMPLE_RATE, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def wanted(folder: Path, scratch: Path) -> list[Utterance]:
    """Choose utterances of the train and dev splits; an id is the path in the bundle."""
    chosen: list[Utterance] = []
    for split in ("train", "dev"):
        path = scratch / f"{split}.csv"
        prepare_table(folder / "manifest.csv", path, where={"split": split}, min_seconds=1.5)
        listed = load_manifest(path)
        count: Counter[str | None] = Counter()
        for u in listed:
            source = Path(u.id).parts[1]
            count[u.speaker] += 1
            dense = source == "gcompris" and count[u.speaker] <= PER_VOICE
            if source == "speechocean762" or dense:
                chosen.append(
                    Utterance(
                        f"{split}/{source}/{len(chosen)}.opus",
                        str(listed.path(u).resolve()),
                        min(u.seconds, SECONDS),
                        SAMPLE_RATE,
                        u.speaker,
                        u.recording,
                    )
                )
    return chosen


def main() -> None:
    """Make the bundle."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu-bundle"))
    parser.add_argument("--python", default="3.12")
    parser.add_argument("--packages", nargs="*", default=PACKAGES)
    args = parser.parse_args()
    console, folder = Console(), corpora()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.packages:
        fetch(args.out / "wheels", args.python, args.packages)
    with tempfile.TemporaryDirectory() as scratch:
        utterances = wanted(folder, Path(scratch))
    extra = [p for kind in ("noise", "music") for p in sorted((folder / kind).rglob("*")) if p.is_file()]
    names = [u.id for u in utterances] + [f"{p.relative_to(folder).with_suffix('.opus')}" for p in extra]
    paths = [Path(u.path) for u in utterances] + extra
    lengths = [SECONDS] * len(utterances) + [20.0] * len(extra)
    spoken = {u.id for u in utterances}
    archive = args.out / "speech.tar.gz"  # gzip is for the many headers; Opus itself does not shrink
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar, ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, data in zip(names, pool.map(attempt, paths, lengths, chunksize=32), strict=True):
            if not data and name in spoken:
                sys.exit(f"cannot read {name}")
            if data:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows = [Utterance(u.id, u.id, u.seconds, u.rate, u.speaker, u.recording) for u in utterances]
    save_manifest(Manifest(rows, args.out), args.out / "speech.csv")
    size = sum(p.stat().st_size for p in args.out.rglob("*") if p.is_file())
    console.print(f"{args.out}: {len(rows):,} utterances, {len(extra)} noises, {size / 2**20:.1f} MiB")


def attempt(path: Path, seconds: float) -> bytes:
    """Return the file as Opus, or nothing if it cannot be read (some noise files are broken)."""
    try:
        return opus(path, seconds)
    except IdemvoxError:
        return b""


def fetch(folder: Path, python: str, packages: list[str]) -> None:
    """Download wheels for Linux and a version of Python, of the package versions installed here."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--implementation", "cp", "-d", str(folder)]
    command += [word for name in PLATFORMS for word in ("--platform", name)]
    for name in packages:
        try:
            pinned = f"{name}=={version(name)}"
        except PackageNotFoundError:
            pinned = name
        subprocess.run([*command, pinned], check=True)


if __name__ == "__main__":
    main()
