"""How fast is a recording embedded? PyTorch and ONNX, float32 and 8 bits, one thread and two.

    python benchmarks/embed.py [--quick] [--rounds 5] [--out docs/results]

Encoders of published sizes with random weights embed real recordings one by one, as the verifier does, each
with its front end: the log-mel, or that of the toolkit whose weights it takes. All systems of an encoder run
in turn in every round, so a busy moment of the machine affects them alike. Where Resemblyzer is installed,
its own ``VoiceEncoder`` embeds the same recordings with its own weights, from its level normalisation on.

"real time factor" is computing time over the length of the audio, so 0.01 means 100 times faster than real
time. "largest difference" is that of two unit vectors, PyTorch's and this system's.

With --quick the encoders are tiny, there is one round, and nothing is written.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import parity
from common import corpora, in_turn, measuring, publish
from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.export.checks import Sample, measure_parity
from idemvox.export.graph import quantise, write_graph
from idemvox.model import build_encoder
from idemvox.onnx_encoder import OnnxEncoder
from idemvox.recipe import Part
from idemvox.registry import ENCODERS
from idemvox.verification.embed import embed_waves

RECORDINGS = 4
THREADS = (1, 2)
SYSTEMS = {
    "ge2e_lstm": FrontEndSettings(kind="resemblyzer", window="hann", normalise="none"),
    "fast_resnet34": FrontEndSettings(),
    "resnet34": FrontEndSettings(mels=80, kind="kaldi", floor=1.2e-7, pre_emphasis=0.97, normalise="mean"),
    "ecapa_tdnn": FrontEndSettings(mels=80, kind="speechbrain", floor=1e-10, normalise="mean"),
}
"""The front end that each encoder is measured with."""


class Engine(NamedTuple):
    """A way to embed a wave, and the threads that it computes with."""

    name: str
    threads: int
    embed: Callable[[NDArray[np.float32]], object]


def speech() -> list[Sample]:
    """Return recordings of read English, of 10 to 16 s."""
    found: list[Sample] = []
    for path in sorted((corpora() / "speech/librispeech").rglob("*.opus")):
        wave = read(path)
        if 10 * SAMPLE_RATE <= len(wave) <= 16 * SAMPLE_RATE:
            found.append(Sample(path.name, wave))
        if len(found) == RECORDINGS:
            return found
    sys.exit("the corpora hold no LibriSpeech recordings of 10 to 16 s")


def resemblyzer() -> Callable[[NDArray[np.float32]], Any] | None:
    """Return Resemblyzer's own embedding of a wave; ``None`` if it is not installed."""
    try:
        return parity.resemblyzer(Path())[1]
    except ImportError:
        return None


def measure(name: str, samples: list[Sample], rounds: int, quick: bool, folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one encoder."""
    torch.manual_seed(0)
    options = ENCODERS[name].tiny if quick else {}
    encoder = parity.live(build_encoder(Part(name=name, **options), asdict(SYSTEMS[name])))
    write_graph(encoder, folder / "fp32.onnx")
    quantise(folder / "fp32.onnx", folder / "int8.onnx")
    size = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    engines, apart, bytes_of = [], {"PyTorch": None}, {"PyTorch": None}
    for threads in THREADS:
        engines.append(Engine("PyTorch", threads, lambda wave: embed_waves(encoder, [wave])))
        for kind in ("fp32", "int8"):
            file = folder / f"{kind}.onnx"
            exported = OnnxEncoder(file, threads)
            engines.append(Engine(f"ONNX {kind}", threads, lambda wave, e=exported: embed_waves(e, [wave])))
            bytes_of[f"ONNX {kind}"] = round(file.stat().st_size / 2**20, 1)
            if f"ONNX {kind}" not in apart:
                found = measure_parity(encoder, exported, samples, real=True)
                apart[f"ONNX {kind}"] = found.worst
        if name == "ge2e_lstm" and (peer := resemblyzer()) is not None:
            engines.append(Engine("Resemblyzer's own code", threads, peer))

    seconds = sum(len(sample.wave) for sample in samples) / SAMPLE_RATE

    def all_of(engine: Engine) -> Callable[[], None]:
        def run() -> None:
            torch.set_num_threads(engine.threads)
            for sample in samples:
                engine.embed(sample.wave)

        return run

    rates = in_turn({f"{e.name}/{e.threads}": (all_of(e), seconds) for e in engines}, rounds)
    rows = []
    for engine in engines:
        factors = [1 / rate for rate in rates[f"{engine.name}/{engine.threads}"]]
        row = {
            "system": f"{name}, {SYSTEMS[name].kind}, {size:.1f} M",
            "engine": engine.name,
            "threads": str(engine.threads),
            "median_real_time_factor": float(np.median(factors)),
            "lowest": min(factors),
            "highest": max(factors),
            "MiB": bytes_of.get(engine.name),
            "largest_difference": apart.get(engine.name),
        }
        rows.append(row)
        print({key: value for key, value in row.items() if value is not None}, flush=True)
    return rows


def main() -> None:
    """Measure every encoder, and write the table."""
    given = measuring(__doc__, rounds=5).parse_args()
    samples = speech()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="idemvox-embed-") as temporary:
        for name in SYSTEMS:
            rows += measure(name, samples, 1 if given.quick else given.rounds, given.quick, Path(temporary))
    if not given.quick:
        publish(given.out, "embed", "Embedding: PyTorch and ONNX", __doc__ or "", rows, per="round")


if __name__ == "__main__":
    main()
