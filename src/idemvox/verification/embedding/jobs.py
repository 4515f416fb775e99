"""What is to be embedded: parts of files, in batches of similar length."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from idemvox.audio.read import SAMPLE_RATE, probe, read
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import AudioError
from idemvox.verification.embedding.embeddings import Floats

__all__ = ["Job", "batches_of", "jobs_of", "read_job"]


@dataclass(frozen=True, slots=True)
class Job:
    """One utterance to embed.

    Attributes:
        row: its row in the matrix.
        start: sample, at 16 kHz.
        samples: ``None``: to the end.
    """

    id: str
    path: str
    seconds: float
    row: int
    start: int = 0
    samples: int | None = None


def jobs_of(source: Manifest | Sequence[str | Path], max_seconds: float | None = None) -> list[Job]:
    """Return the jobs of a manifest, or of audio files, whose headers are read; a file counts once.

    Args:
        source: as for :func:`~idemvox.verification.embed.embed_files`.
        max_seconds: cut longer utterances to their first seconds.
    """
    if isinstance(source, Manifest):
        return [_job(u, os.fspath(source.path(u)), row, max_seconds) for row, u in enumerate(source)]
    cut = None if max_seconds is None else round(max_seconds * SAMPLE_RATE)
    most = max_seconds or math.inf
    paths = list(dict.fromkeys(str(path) for path in source))
    return [Job(p, p, min(probe(p).seconds, most), row, samples=cut) for row, p in enumerate(paths)]


def _job(utterance: Utterance, path: str, row: int, max_seconds: float | None) -> Job:
    limits = [] if max_seconds is None else [max_seconds]
    if utterance.start is not None:
        limits.append(utterance.seconds)
    samples = round(min(limits) * SAMPLE_RATE) if limits else None
    start = round((utterance.start or 0) * SAMPLE_RATE)
    return Job(utterance.id, path, min([utterance.seconds, *limits]), row, start, samples)


def batches_of(jobs: Sequence[Job], batch_seconds: float) -> list[list[Job]]:
    """Return batches, longest utterances first, so that one too large for memory fails at once."""
    batches: list[list[Job]] = []
    for job in sorted(jobs, key=lambda job: -job.seconds):
        if not batches or batches[-1][0].seconds * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
        batches[-1].append(job)
    return batches


def read_job(job: Job) -> Floats:
    """Return the audio of a job, (T,) at 16 kHz.

    Raises:
        AudioError: it cannot be read; names the utterance.
    """
    try:
        return read(job.path, job.start, job.samples)
    except AudioError as error:
        raise AudioError(f"cannot embed {job.id!r}: {error}; repair the file or leave it out") from error
