"""Embeddings of whole utterances, in batches of similar length, with audio read ahead."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from idemvox.audio.read import SAMPLE_RATE, probe, read
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.embedder import Embedder
from idemvox.errors import AudioError, CorpusError, IdemvoxError, ModelError
from idemvox.files import atomic_write
from idemvox.onnx_encoder import OnnxEncoder
from idemvox.processes import read_ahead
from idemvox.progress import task_bar

if TYPE_CHECKING:
    import torch

__all__ = [
    "Crops",
    "Embeddings",
    "embed_files",
    "embed_waves",
    "load_embeddings",
    "save_embeddings",
]

Floats = NDArray[np.float32]
Precision = Literal["fp32", "bf16"]
WHOLE = "whole utterances"
_AHEAD = 3  # batches of audio being read or waiting to be embedded
_SHORTEST = 400  # samples: one 25 ms window


@dataclass(frozen=True, slots=True)
class Crops:
    """Several crops of an utterance instead of the whole, at equal distances from its start to its end.

    Two utterances then score the mean of all pairs of their crops, as in voxceleb_trainer ("10 x 10").

    Attributes:
        count: crops of one utterance, n.
        seconds: length of each; a shorter utterance is its own only crop.
    """

    count: int = 10
    seconds: float = 4.0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seconds * SAMPLE_RATE < _SHORTEST:
            raise IdemvoxError(f"there must be 1 crop or more, of at least {_SHORTEST / SAMPLE_RATE} s")

    def __str__(self) -> str:
        return f"{self.count} crops of {self.seconds:g} s, mean of all pairs"

    def cut(self, wave: Floats) -> list[Floats]:
        """Return the crops of a wave (T,), or the wave alone if it is no longer than one."""
        length = round(self.seconds * SAMPLE_RATE)
        if len(wave) <= length:
            return [wave]
        starts = np.linspace(0, len(wave) - length, self.count).astype(np.int64)
        return [wave[start : start + length] for start in starts.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """One vector per utterance id, or one per crop.

    Attributes:
        matrix: (N, D) output of the encoder, not normalised; (N, n, D) for n crops of each utterance.
        of: what was embedded, for reports.
        rows: row of each id.
    """

    ids: tuple[str, ...]
    matrix: Floats
    of: str = WHOLE
    rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = {name: row for row, name in enumerate(self.ids)}
        if self.matrix.ndim not in (2, 3) or len(self.matrix) != len(self.ids) or len(rows) != len(self.ids):
            raise IdemvoxError(
                f"{len(self.ids)} ids must all differ and have one row each; got {self.matrix.shape}"
            )
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, utterance: str) -> Floats:
        """(D,) embedding of one utterance; (n, D) of its crops."""
        if utterance not in self.rows:
            raise IdemvoxError(f"there is no embedding of {utterance!r} among these {len(self)}")
        vector: Floats = self.matrix[self.rows[utterance]]
        return vector


@dataclass(frozen=True, slots=True)
class _Job:
    """One utterance to embed.

    Attributes:
        start: sample, at 16 kHz.
        samples: to the end.
    """

    id: str
    path: Path
    seconds: float
    row: int
    start: int = 0
    samples: int | None = None


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
        progress: show a progress bar.

    Raises:
        AudioError: a file cannot be read or is empty; names it.
        ModelError: an embedding is not finite; names the file.
    """
    if batch_seconds <= 0 or (max_seconds is not None and max_seconds <= 0):
        raise IdemvoxError("batch_seconds and max_seconds must be above 0")
    jobs = _jobs(source, max_seconds)
    if not jobs:
        raise CorpusError("there is nothing to embed: the manifest or list is empty")
    rows: list[Any] = [None] * len(jobs)
    batches = _batches(jobs, batch_seconds)
    in_order, most = chain.from_iterable(batches), _AHEAD * batch_seconds
    loaded = read_ahead(_read, in_order, workers, len(jobs), weigh=lambda job: job.seconds, most=most)
    with closing(loaded), task_bar("embedding", len(batches), progress) as bar:
        for batch in batches:
            waves, names = list(islice(loaded, len(batch))), [str(job.path) for job in batch]
            if crops is None:
                vectors = embed_waves(encoder, waves, names=names, device=device, precision=precision)
            else:
                most_crops = max(1, int(batch_seconds / crops.seconds))
                vectors = _embed_crops(encoder, waves, names, crops, most_crops, device, precision)
            for job, vector in zip(batch, vectors, strict=True):
                rows[job.row] = vector
            bar.advance(bar.task_ids[0])
    of = WHOLE if max_seconds is None else f"the first {max_seconds:g} s"
    if crops is not None:
        of = str(crops) if max_seconds is None else f"{crops}, of {of}"
    if precision != "fp32":
        of += f", {precision}"
    return Embeddings(tuple(job.id for job in jobs), np.stack(rows), of)


def _embed_crops(
    encoder: Embedder,
    waves: Sequence[Floats],
    names: Sequence[str],
    crops: Crops,
    most: int,
    device: str | torch.device | None,
    precision: Precision,
) -> Floats:
    """Return (N, n, D) the embeddings of the crops of N waves, ``most`` crops at a time."""
    cut = [crops.cut(wave) for wave in waves]
    flat = [(name, crop) for name, parts in zip(names, cut, strict=True) for crop in parts]
    vectors = []
    for start in range(0, len(flat), most):
        some_names, some = zip(*flat[start : start + most], strict=True)
        vectors += list(embed_waves(encoder, some, names=some_names, device=device, precision=precision))
    found = iter(vectors)
    return np.stack(
        [np.broadcast_to(list(islice(found, len(parts))), (crops.count, len(vectors[0]))) for parts in cut]
    )


def embed_waves(
    encoder: Embedder,
    waves: Sequence[Floats],
    *,
    names: Sequence[str] | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Floats:
    """Return (N, D) the embeddings of waves, each (T,) at 16 kHz with full scale at 1, as one batch.

    Args:
        encoder: as for :func:`embed_files`.
        waves: waves of any lengths.
        names: names of the waves in errors.
        device: as for :func:`embed_files`.
        precision: as for :func:`embed_files`.

    Raises:
        AudioError: a wave is too short.
        ModelError: an embedding is not finite.
    """
    if precision not in ("fp32", "bf16"):
        raise IdemvoxError(f"unknown precision {precision!r}; have: bf16, fp32")
    names = names or ["this recording"] * len(waves)
    for name, wave in zip(names, waves, strict=True):
        if len(wave) < _SHORTEST:
            raise AudioError(
                f"cannot embed {name}: {len(wave)} samples at 16 kHz are too few (at least {_SHORTEST});"
                " use a longer recording, or leave it out"
            )
    lengths = np.array([len(wave) for wave in waves], np.int64)
    padded = np.zeros((len(waves), lengths.max()), np.float32)  # (B, T)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    if isinstance(encoder, OnnxEncoder):
        matrix = encoder(padded, lengths)
    else:
        from idemvox.verification.forward import forward

        matrix = forward(encoder, padded, lengths, device, precision)
    for name, vector in zip(names, matrix, strict=True):
        if not np.isfinite(vector).all():
            raise ModelError(
                f"the embedding of {name} is NaN or infinite: the model has probably diverged;"
                " use an earlier checkpoint"
            )
    return matrix


def _jobs(source: Manifest | Sequence[str | Path], max_seconds: float | None) -> list[_Job]:
    if isinstance(source, Manifest):
        return [_job(u, source.path(u), row, max_seconds) for row, u in enumerate(source)]
    cut = None if max_seconds is None else round(max_seconds * SAMPLE_RATE)
    most = max_seconds or math.inf
    paths = list(dict.fromkeys(str(path) for path in source))
    return [
        _Job(p, Path(p), min(probe(Path(p)).seconds, most), row, samples=cut) for row, p in enumerate(paths)
    ]


def _job(utterance: Utterance, path: Path, row: int, max_seconds: float | None) -> _Job:
    limits = [] if max_seconds is None else [max_seconds]
    if utterance.start is not None:
        limits.append(utterance.seconds)
    samples = round(min(limits) * SAMPLE_RATE) if limits else None
    start = round((utterance.start or 0) * SAMPLE_RATE)
    return _Job(utterance.id, path, min([utterance.seconds, *limits]), row, start, samples)


def _batches(jobs: list[_Job], batch_seconds: float) -> list[list[_Job]]:
    """Return batches, longest utterances first, so that one too large for memory fails at once."""
    batches: list[list[_Job]] = []
    for job in sorted(jobs, key=lambda job: -job.seconds):
        if not batches or batches[-1][0].seconds * (len(batches[-1]) + 1) > batch_seconds:
            batches.append([])
        batches[-1].append(job)
    return batches


def _read(job: _Job) -> Floats:
    try:
        wave = read(job.path, job.start, job.samples)
    except AudioError as error:
        raise AudioError(f"cannot embed {job.id!r}: {error}; repair the file or leave it out") from error
    return wave


def save_embeddings(embeddings: Embeddings, path: str | Path) -> None:
    """Write embeddings as ``.npz``, atomically."""
    with atomic_write(path, "wb") as file:
        ids = np.array(embeddings.ids, dtype=np.str_)
        np.savez(file, ids=ids, matrix=embeddings.matrix, of=embeddings.of)


def load_embeddings(path: str | Path) -> Embeddings:
    """Read a file written by :func:`save_embeddings`; nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            of = str(file["of"]) if "of" in file else WHOLE
            return Embeddings(tuple(file["ids"].tolist()), np.asarray(file["matrix"], np.float32), of)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise IdemvoxError(f"cannot read embeddings from {path}: {error}; write them again") from error
