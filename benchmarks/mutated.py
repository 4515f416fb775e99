"""Whether any damaged file or request crashes the verifier or the service, hangs it or fills the memory.

    python benchmarks/mutated.py [--files 2000] [--requests 2000] [--seed 0] [--quick]

Three seconds of real speech (simulated without the corpora) are written as WAV (16 and 24 bits, float or
mu-law), FLAC, Ogg Vorbis, Ogg Opus and MP3, and by PyAV as MP4 and Matroska. Each test file is one of these
with damage: bits flipped, bytes overwritten (also with extreme values), parts deleted, repeated or inserted,
or the end cut off. Most of the damage is near the header, where it does the most harm. The verifier compares
each file with an intact recording.

There are three good outcomes: a verdict, an abstention, and an `IdemvoxError` with a message. The bad ones
are any other exception, the end of the process, more than 20 s for one file, and more than 1 GiB of memory
over that of intact files. The work is done in a child process, which is restarted if it dies.

The service gets requests to all its routes, by its ASGI interface: with such files, odd names, absurd
numbers, wrong types, missing and unknown fields, damaged forms, false lengths, or cut off. Good outcomes are
an answer and a refusal with a message. A status of 500 or more is bad, and so is an answer with a trace, a
path of the server, or the name of another speaker than the request's (the list of speakers and identification
apart).

Writes docs/results/mutated.{md,json}.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
from rich.console import Console

import odd_requests
from common import measuring, publish
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.encoders.fast_resnet34 import FastResNet34
from idemvox.errors import IdemvoxError
from idemvox.service.app import make_app
from idemvox.verification.scoring import Scorer
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.verifier import Verifier

SECONDS = 20  # for one file
MEMORY = 1 << 20  # KiB over that of intact files
SUBTYPES = {
    **{f"{name}.wav": ("WAV", name) for name in ("PCM_16", "PCM_24", "FLOAT", "ULAW")},
    "a.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"),
    "a.mp3": ("MP3", "MPEG_LAYER_III"),
}
EXTREMES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f")


def speech() -> np.ndarray:
    """Return 3 s of real speech, or of simulated syllables where the corpora are absent."""
    folder = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora"), "speech/librispeech")
    for path in sorted(folder.rglob("*.opus"))[:1]:
        return read(path, 0, 3 * SAMPLE_RATE)
    time_ = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    voice = sum(np.sin(2 * np.pi * 110 * n * time_) / n for n in range(1, 20))
    return (0.1 * voice * np.abs(np.sin(2 * np.pi * 2 * time_))).astype(np.float32)


def intact(wave: np.ndarray) -> dict[str, bytes]:
    """Return one recording in every format: file name -> bytes."""
    files = {}
    for name, (kind, subtype) in SUBTYPES.items():
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, SAMPLE_RATE, format=kind, subtype=subtype)
        files[name] = buffer.getvalue()
    for name, kind, codec in (("a.m4a", "mp4", "aac"), ("a.mka", "matroska", "flac")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=SAMPLE_RATE, layout="mono")
            pcm = (wave * 32767).astype(np.int16)[None]
            for start in range(0, pcm.shape[1], 1024):
                part = np.ascontiguousarray(pcm[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
                frame.rate, frame.pts = SAMPLE_RATE, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        files[name] = buffer.getvalue()
    return files


def mutated(files: dict[str, bytes], number: int, seed: int = 0) -> tuple[str, bytes]:
    """Return the name and the bytes of one damaged file, a function of its number and the seed."""
    rng = np.random.default_rng([seed, number])
    name = sorted(files)[number % len(files)]
    data, hurts = bytearray(files[name]), int(rng.integers(1, 6))
    while hurts > 0 or data == files[name]:
        _damage(data, rng)
        hurts -= 1
    return name, bytes(data)


def _damage(data: bytearray, rng: np.random.Generator) -> None:
    reach = min(len(data), 128) if rng.random() < 0.6 else len(data)
    at = int(rng.integers(reach)) if reach else 0
    size = int(rng.integers(1, 64)) if rng.random() < 0.7 else int(rng.integers(1, max(2, len(data))))
    match int(rng.integers(8)):
        case 0 if data:
            data[at] ^= 1 << int(rng.integers(8))
        case 1:
            data[at : at + 1] = rng.bytes(1)
        case 2 | 3:
            extreme = EXTREMES[int(rng.integers(len(EXTREMES)))]
            data[at : at + len(extreme)] = extreme
        case 4:
            del data[at : at + size]
        case 5:
            data[at:at] = data[at : at + size]
        case 6:
            data[at:at] = rng.bytes(size)
        case _:
            del data[len(data) - size :]


def outcome(verifier: Verifier, path: Path, data: bytes, other: Path) -> str:
    """Compare a damaged file with another; return "verdict", "abstains", "error" or the exception."""
    path.write_bytes(data)
    try:
        verdict = verifier.verify(path, other)
    except IdemvoxError as error:
        return "error" if str(error) else "an error without a message"
    except Exception as error:  # noqa: BLE001 - what this benchmark looks for
        return f"{type(error).__name__}: {error}"
    decided = verdict.reasons == ("this model is not calibrated: run `idemvox calibrate`",)
    return "verdict" if decided else "abstains"


def tiny_verifier() -> Verifier:
    """Return a verifier with a small encoder that was not trained."""
    torch.manual_seed(0)
    return Verifier(FastResNet34(FastResNet34.Options(**FastResNet34.tiny)), Scorer())


def child(start: int, count: int, seed: int, folder: Path) -> None:
    """Test the files from ``start`` on; print a line of JSON for each."""
    files, verifier = intact(speech()), tiny_verifier()
    other = folder / "other.wav"
    other.write_bytes(files["PCM_16.wav"])
    for name, data in files.items():
        assert outcome(verifier, folder / name, data, other) == "verdict", name

    def one(number: int) -> tuple[str, str]:
        name, data = mutated(files, number, seed)
        return name, outcome(verifier, folder / name, data, other)

    watch(one, start, count)


def service(folder: Path) -> Any:
    """Return a service with two speakers; no request of :mod:`odd_requests` knows one of them."""
    app = make_app(tiny_verifier(), SqliteStore(folder / "speakers.sqlite", "m"))
    files = intact(speech())
    for name, wave in (("Anna", files["PCM_16.wav"]), (odd_requests.SECRET, files["ULAW.wav"])):
        status, body = odd_requests.ask(app, odd_requests.fine(name, wave))
        assert status == 200, body
    return app


def child_of_requests(start: int, count: int, seed: int) -> None:
    """Print a line of JSON for each of the requests from ``start`` on."""
    intact_ones = list(intact(speech()).values())
    with tempfile.TemporaryDirectory() as folder:
        app = service(Path(folder))

        def one(number: int) -> tuple[str, str]:
            request = odd_request(intact_ones, number, seed)
            return request.route, odd_requests.request_outcome(app, request, folder)

        watch(one, start, count)


def odd_request(files: list[bytes], number: int, seed: int = 0) -> odd_requests.Request:
    """Return one request, a function of its number and the seed."""
    rng = np.random.default_rng([seed, number, 1])
    some = [bytearray(files[int(rng.integers(len(files)))]) for _ in range(2)]
    if rng.random() < 0.5:
        _damage(some[0], rng)
    return odd_requests.odd_request([bytes(data) for data in some], rng, _damage)


def watch(one: Callable[[int], tuple[str, str]], start: int, count: int) -> None:
    """Print a line of JSON for each number: its name and outcome, time and memory watched."""
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(start, count):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        began = time.perf_counter()
        name, found = one(number)
        faulthandler.cancel_dump_traceback_later()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
        if grown > MEMORY:
            found = f"{grown / 2**20:.1f} GiB of memory"
            base += grown
        row = {"number": number, "name": name, "outcome": found, "seconds": time.perf_counter() - began}
        print(json.dumps(row), flush=True)


def run(what: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the outcome of every file; if a child dies, the next one continues after that file."""
    with tempfile.TemporaryDirectory() as folder:
        number = 0
        while number < count:
            command = [
                sys.executable,
                __file__,
                f"--child-{what}",
                str(number),
                str(count),
                str(seed),
                folder,
            ]
            before = number
            with Path(folder, "stderr").open("w+") as errors:
                done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
                assert done.stdout is not None
                for line in done.stdout:
                    row = json.loads(line)
                    number = row["number"] + 1
                    yield row
                done.wait()
                errors.seek(0)
                error = errors.read()
            if number < count:
                if number == before and done.returncode > 0 and "Timeout" not in error:
                    sys.exit(f"the child process does not start: {error}")
                last = error.strip().splitlines()[-1:] or ["no message"]
                yield {
                    "number": number,
                    "name": "",
                    "outcome": f"died with status {done.returncode}: {last[0]}",
                    "seconds": 0.0,
                }
                number += 1


def table_of(rows: list[dict[str, Any]], good: tuple[str, ...]) -> list[dict[str, Any]]:
    """Count the outcomes by name, and in all."""
    counts = Counter((row["name"], row["outcome"] if row["outcome"] in good else "bad") for row in rows)
    names = sorted({row["name"] for row in rows})
    table: list[dict[str, Any]] = [
        {"system": name, "trials": "damaged", **{key: counts[name, key] for key in (*good, "bad")}}
        for name in names
    ]
    sums = {key: sum(row[key] for row in table) for key in (*good, "bad")}
    return [*table, {"system": "all", "trials": "damaged", **sums}]


def main() -> None:
    """Run the benchmark."""
    if sys.argv[1:2] == ["--child-files"]:
        child(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
        return
    if sys.argv[1:2] == ["--child-requests"]:
        child_of_requests(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        return
    parser = measuring(__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    console, table, notes, wrong = Console(), list[dict[str, Any]](), "", False
    for what, count, good in (
        ("files", given.files, ("verdict", "abstains", "error")),
        ("requests", given.requests, ("answered", "refused", "left")),
    ):
        rows = list(run(what, 100 if given.quick else count, given.seed))
        for row in rows:
            if row["outcome"] not in good:
                console.print(f"{what} {row['number']} {row['name']}: {row['outcome']}", markup=False)
                wrong = True
        table += [{**row, "system": f"{what}: {row['system']}"} for row in table_of(rows, good)]
        slowest = max(row["seconds"] for row in rows)
        console.print(table[-1], f"slowest {slowest:.2f} s")
        notes += f"\n\n{len(rows):,} {what}, seed {given.seed}; the slowest took {slowest:.2f} s."
    if not given.quick:
        publish(given.out, "mutated", "Damaged audio files and requests", __doc__ or "", table, notes)
    sys.exit(wrong)


if __name__ == "__main__":
    main()
