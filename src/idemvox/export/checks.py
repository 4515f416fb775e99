"""What an exported model must show: the same embeddings as the original, on recordings of all lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from idemvox.arrays import Wave
from idemvox.audio.read import SAMPLE_RATE, read
from idemvox.corpus.checks.scan import find_audio
from idemvox.corpus.simulated.voices import draw_voice, speak
from idemvox.embedder import Embedder
from idemvox.errors import AudioError, CorpusError
from idemvox.progress import task_bar
from idemvox.verification.embed import embed_waves

__all__ = ["LONGEST", "Parity", "Sample", "find_samples", "measure_parity", "simulated_samples"]

LONGEST = 60.0
"""Seconds that the verifier embeds at once, at most."""

_FILES = 20
_LENGTHS = (1.0, 3.0, 10.0, 60.0)
_BATCH = 4


class Sample(NamedTuple):
    """A recording, or a part of one.

    Attributes:
        wave: (T,) at 16 kHz.
    """

    name: str
    wave: Wave


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported model's embeddings, made unit vectors, are from the original's.

    Attributes:
        real: whether the recordings are real; otherwise they are simulated.
        recordings: of each: its name, its seconds, and the largest absolute difference of the two vectors.
        difference: the largest of all, each recording alone.
        padded: the largest where recordings of several lengths are a batch, against the original's of each
            recording alone.
        cosine: the lowest cosine of the two.
    """

    real: bool
    recordings: tuple[dict[str, Any], ...]
    difference: float
    padded: float
    cosine: float

    @property
    def worst(self) -> float:
        """The largest difference, alone or padded."""
        return max(self.difference, self.padded)


def find_samples(places: Sequence[Path]) -> list[Sample]:
    """Read recordings to check on: up to 20 files, a first second, and the files joined to a minute.

    Args:
        places: audio files, and folders that are searched for them; from many, some of all lengths are taken.

    Raises:
        CorpusError: there are none.
        AudioError: a file cannot be read.
    """
    paths: list[Path] = []
    for place in places:
        paths += [place / name for name in find_audio(place).files] if place.is_dir() else [place]
    if not paths:
        raise CorpusError(f"no audio in {', '.join(map(str, places))}: give audio files, or folders of them")
    paths.sort(key=lambda path: (path.stat().st_size if path.is_file() else 0, path))
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, _FILES).round().astype(int))]
    most = round(LONGEST * SAMPLE_RATE)
    found = [Sample(path.name, read(path, 0, most)) for path in chosen]
    found = [sample for sample in found if len(sample.wave) >= SAMPLE_RATE // 10]
    if not found:
        raise AudioError("all these recordings are shorter than 0.1 s: give longer ones to check on")
    joined = np.concatenate([sample.wave for sample in found])
    minute = np.tile(joined, -(-most // len(joined)))[:most]
    longest = max(found, key=lambda sample: len(sample.wave))
    found.append(Sample(f"the first second of {longest.name}", longest.wave[:SAMPLE_RATE]))
    return [*found, Sample("these recordings joined to a minute", minute)]


def simulated_samples() -> list[Sample]:
    """Return simulated voices of 1 to 60 s, for when no real recordings are given."""
    rng = np.random.default_rng(0)
    return [Sample(f"simulated voice {i}", speak(draw_voice(rng), rng, s)) for i, s in enumerate(_LENGTHS)]


def measure_parity(
    original: Embedder, exported: Embedder, samples: Sequence[Sample], *, real: bool, progress: bool = False
) -> Parity:
    """Embed recordings by both, alone and in padded batches, and compare.

    Args:
        original: the encoder.
        exported: the exported one.
        samples: recordings.
        real: whether they are real.
        progress: show a progress bar.
    """
    theirs, ours = [], []
    with task_bar("comparing", len(samples), progress) as bar:
        for sample in samples:
            theirs.append(_embed(original, [sample])[0])
            ours.append(_embed(exported, [sample])[0])
            bar.advance(bar.task_ids[0])
    expected, got = np.stack(theirs), np.stack(ours)
    apart = np.abs(expected - got).max(axis=1)
    short = [i for i, sample in enumerate(samples) if len(sample.wave) < LONGEST * SAMPLE_RATE]
    padded = 0.0
    for start in range(0, len(short), _BATCH):
        batch = short[start : start + _BATCH]
        together = _embed(exported, [samples[i] for i in batch])
        padded = max(padded, float(np.abs(expected[batch] - together).max()))
    recordings = tuple(
        {"name": s.name, "seconds": round(len(s.wave) / SAMPLE_RATE, 2), "difference": float(d)}
        for s, d in zip(samples, apart, strict=True)
    )
    cosine = float((expected * got).sum(axis=1).min())
    return Parity(real, recordings, float(apart.max()), padded, cosine)


def _embed(encoder: Embedder, samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Return (N, D) unit vectors."""
    vectors = embed_waves(
        encoder, [s.wave for s in samples], names=[s.name for s in samples], device="cpu"
    ).astype(np.float64)
    unit: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
