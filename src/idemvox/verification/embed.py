"""Embeddings of whole utterances, in batches of similar length, with audio read ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from idemvox.corpus.manifest import Manifest
from idemvox.embedder import Embedder
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.processes import read_ahead
from idemvox.progress import task_bar
from idemvox.verification.embedding.cache import EmbeddingCache
from idemvox.verification.embedding.crops import Crops
from idemvox.verification.embedding.embeddings import SPEECH, WHOLE, Embeddings, Floats
from idemvox.verification.embedding.files import load_embeddings, save_embeddings
from idemvox.verification.embedding.group import Group
from idemvox.verification.embedding.jobs import Job, batches_of, jobs_of, read_job
from idemvox.verification.embedding.kept import InMemory, Kept, OnDisk, assembled
from idemvox.verification.embedding.waves import Precision, embed_waves, runtime_of

if TYPE_CHECKING:
    import torch

if TYPE_CHECKING:
    import torch

__all__ = [
    "SPEECH",
    "WHOLE",
    "Crops",
    "EmbeddingCache",
    "Embeddings",
    "Precision",
    "embed_files",
    "embed_shared",
    "embed_waves",
    "load_embeddings",
    "save_embeddings",
]

_AHEAD = 3  # batches of audio being read or waiting to be embedded


def embed_files(
    encoder: Embedder,
    source: Manifest | Sequence[str | Path],
    *,
    device: str | torch.device | None = None,
    batch_seconds: float = 120.0,
    precision: Precision = "fp32",
    max_seconds: float | None = None,
    crops: Crops | None = None,
    workers: int = 2,
    cache: EmbeddingCache | None = None,
    progress: bool = False,
) -> Embeddings:
    """Embed whole utterances, one vector each; padding and batch size do not change the result.

    A module runs in evaluation mode without gradients; afterwards the mode of each part is restored.

    Args:
        encoder: an :class:`~idemvox.encoders.base.Encoder`, or any other callable with its signature.
        source: a manifest (ids are its ids) or audio files (ids are the paths as given).
        device: device of the encoder's input; a module is moved there and stays there. ``None`` leaves a
            module where it is, and means the CPU for any other callable.
        batch_seconds: most audio in a batch, padding included; a longer utterance is a batch alone.
        precision: ``"bf16"`` runs the network, but not the front end, under autocast.
        max_seconds: cut longer utterances to their first seconds; ``None`` embeds them whole.
        crops: embed crops of each utterance instead, one vector each; ``None`` embeds it whole.
        workers: threads that read audio.
        cache: embeddings that are in it are taken from it, the others are written into it, every 20 s at the
            latest. Run again after it was killed, a command ends with the same bits. The matrix is
            memory-mapped. ``None`` embeds everything, in memory.
        progress: show a progress bar.

    Raises:
        AudioError: a file cannot be read or is empty; names it.
        ModelError: an embedding is not finite; names the file.
    """
    how = _How(encoder, device, batch_seconds, precision, max_seconds, crops, workers)
    found = _embed(how, source, cache, Group(), progress)
    assert found is not None
    return found


def embed_shared(
    encoder: Embedder,
    source: Manifest | Sequence[str | Path],
    *,
    cache: EmbeddingCache | None = None,
    progress: bool = False,
    **how: Any,
) -> Embeddings | None:
    """Embed as :func:`embed_files` does, each process of a process group its share of the batches.

    Batches are those of one process, so on devices of one kind the result is the same, bit for bit.
    See :func:`idemvox.launch.run_on`.

    Args:
        encoder: as for :func:`embed_files`.
        source: as for :func:`embed_files`, the same in all processes.
        cache: as for :func:`embed_files`; where processes on several machines have one in common, each finds
            what the others have embedded.
        progress: show rank 0's progress.
        how: the other arguments of :func:`embed_files`.

    Returns:
        The embeddings in rank 0, or without a process group; ``None`` in the other processes.

    Raises:
        RunError: another process has stopped.
    """
    return _embed(_How(encoder, **how), source, cache, Group.current(), progress)


@dataclass(frozen=True, slots=True)
class _How:
    """The arguments of :func:`embed_files` that say how."""

    encoder: Embedder
    device: str | torch.device | None = None
    batch_seconds: float = 120.0
    precision: Precision = "fp32"
    max_seconds: float | None = None
    crops: Crops | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        if self.batch_seconds <= 0 or (self.max_seconds is not None and self.max_seconds <= 0):
            raise IdemvoxError("batch_seconds and max_seconds must be above 0")

    def __str__(self) -> str:
        """All that changes an embedding, besides the model and the audio, in words."""
        of = WHOLE if self.max_seconds is None else f"the first {self.max_seconds:g} s"
        if self.crops is not None:
            of = str(self.crops) if self.max_seconds is None else f"{self.crops}, of {of}"
        return of if self.precision == "fp32" else f"{of}, {self.precision}"

    def embed(self, waves: Sequence[Floats], names: Sequence[str]) -> Floats:
        """Return (N, D), or (N, n, D) of crops, the embeddings of a batch."""
        if self.crops is not None:
            return self._embed_crops(self.crops, waves, names)
        return embed_waves(self.encoder, waves, names=names, device=self.device, precision=self.precision)

    def _embed_crops(self, crops: Crops, waves: Sequence[Floats], names: Sequence[str]) -> Floats:
        """Return (N, n, D) the embeddings of the crops of N waves, a batch of crops at a time."""
        most = max(1, int(self.batch_seconds / crops.seconds))
        cut = [crops.cut(wave) for wave in waves]
        flat = [(name, crop) for name, parts in zip(names, cut, strict=True) for crop in parts]
        vectors: list[Floats] = []
        for start in range(0, len(flat), most):
            some_names, some = zip(*flat[start : start + most], strict=True)
            vectors += list(
                embed_waves(
                    self.encoder, some, names=some_names, device=self.device, precision=self.precision
                )
            )
        found = iter(vectors)
        shape = (crops.count, len(vectors[0]))
        return np.stack([np.broadcast_to(list(islice(found, len(parts))), shape) for parts in cut])


def _embed(
    how: _How,
    source: Manifest | Sequence[str | Path],
    cache: EmbeddingCache | None,
    group: Group,
    progress: bool,
) -> Embeddings | None:
    jobs = jobs_of(source, how.max_seconds)
    if not jobs:
        raise CorpusError("there is nothing to embed: the manifest or list is empty")
    progress = progress and group.first
    kept: Kept = InMemory(len(jobs))
    if cache is not None:
        keys = cache.keys(jobs, group, how.workers, progress)
        kept = OnDisk(cache.table(str(how), runtime_of(how.encoder, how.device)), keys)
    distinct = [job for job in jobs if kept.takes[job.row] == job.row]
    batches = group.share(batches_of(distinct, how.batch_seconds))
    try:
        _fill(how, kept, batches, progress)
    finally:
        kept.flush()
    rows = np.array([job.row for job in chain.from_iterable(batches)], np.int64)
    matrix = assembled(kept, rows, group)
    return None if matrix is None else Embeddings(tuple(job.id for job in jobs), matrix, str(how))


def _fill(how: _How, kept: Kept, batches: Sequence[Sequence[Job]], progress: bool) -> None:
    """Embed what is not kept yet."""
    left = [[job for job in batch if not kept.done[job.row]] for batch in batches]
    left = [batch for batch in left if batch]
    in_order: Iterator[Job] = chain.from_iterable(left)
    most = _AHEAD * how.batch_seconds
    loaded = read_ahead(
        read_job, in_order, how.workers, sum(map(len, left)) or 1, weigh=lambda job: job.seconds, most=most
    )
    bar = task_bar("embedding", len(batches), progress, done=len(batches) - len(left))
    with closing(loaded), bar:
        for batch in left:
            waves, names = list(islice(loaded, len(batch))), [job.path for job in batch]
            kept.add(np.array([job.row for job in batch], np.int64), how.embed(waves, names))
            bar.advance(bar.task_ids[0])
