"""Fit a back end on the embeddings of utterances, with labels, without, or with clusters in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from idemvox.clustering.partition import Clustering, partition
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest
from idemvox.corpus.pseudo import known_as
from idemvox.draws import draw_seed
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.model import Model
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.embed import EmbeddingCache, embed_files
from idemvox.verification.plda import fit_plda

__all__ = ["BackEndOptions", "Kind", "fit_backend", "fit_model_backend"]

Floats = NDArray[np.float32]
Labels = NDArray[np.integer[Any]]
Kind = Literal["mean", "s-norm", "as-norm", "plda"]


@dataclass(frozen=True, slots=True)
class BackEndOptions:
    """Which back end to fit; all subtract the mean embedding.

    Attributes:
        kind: ``mean``: nothing else. ``s-norm``, ``as-norm``: normalise scores by a cohort. ``plda``:
            compare by PLDA.
        labels: use the speakers: PLDA's classes are speakers, and a cohort is their mean embeddings.
        clusters: PLDA without labels: the number of pseudo-speakers.
        clustering: how they are found: ``agglomerative`` (average linkage by cosine) or spherical ``kmeans``.
        top: AS-norm: highest scores that count, for each side.
        cohort: most members of a cohort, drawn at random if there are more.
        lda: numbers that PLDA projects to first; fewer if there are fewer classes; 0: no projection.
        unit_length: bring embeddings to length 1 before PLDA.
        iterations: of PLDA's EM.
        seed: of the random choices.
    """

    kind: Kind = "as-norm"
    labels: bool = False
    clusters: int | None = None
    clustering: Clustering = "agglomerative"
    top: int = 300
    cohort: int = 10_000
    lda: int = 128
    unit_length: bool = True
    iterations: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("back end", self.kind, Kind),
            ("clustering", self.clustering, Clustering),
        ):
            if value not in get_args(allowed):
                raise IdemvoxError(f"unknown {name} {value!r}; have: {', '.join(get_args(allowed))}")
        if self.kind == "plda" and self.labels == (self.clusters is not None):
            raise IdemvoxError(
                "PLDA needs either speakers (--labels) or a number of pseudo-speakers to find (--clusters)"
            )
        if self.kind != "plda" and self.clusters is not None:
            raise IdemvoxError("clusters are for PLDA (--scoring plda); leave them out")
        if self.kind == "mean" and self.labels:
            raise IdemvoxError("a mean needs no labels; leave them out")
        if min(self.top, self.cohort, self.iterations, self.clusters or 2) < 2 or self.lda < 0:
            raise IdemvoxError("top, cohort, clusters and iterations are 2 or more, lda is 0 or more")


def fit_backend(matrix: Floats, options: BackEndOptions, speakers: Labels | None = None) -> BackEnd:
    """Fit a back end on embeddings.

    Args:
        matrix: (N, D) embeddings as the encoder gives them.
        options: what to fit.
        speakers: (N,) a number for each speaker, -1 if unknown; read only with ``options.labels``.

    Raises:
        CorpusError: there are too few utterances or, where they are needed, speakers.
    """
    mean = matrix.mean(axis=0, dtype=np.float64).astype(np.float32)
    if options.kind == "mean":
        return BackEnd(mean)
    if options.labels:
        if speakers is None or not (known := speakers >= 0).any():
            raise CorpusError(
                "these utterances have no speakers: fill in the manifest's column speaker, or do without "
                "--labels"
            )
        matrix, speakers = matrix[known], speakers[known]
    if options.kind == "plda":
        labels = speakers if options.labels and speakers is not None else _clusters(matrix - mean, options)
        of = f"{len(np.unique(labels)):,} {'speakers' if options.labels else 'pseudo-speakers'}"
        plda = fit_plda(
            matrix - mean,
            labels,
            lda=min(options.lda, matrix.shape[1]) or None,
            unit_length=options.unit_length,
            iterations=options.iterations,
            of=of,
        )
        return BackEnd(mean, plda=plda)
    if options.labels and speakers is not None:
        matrix = _means(matrix, speakers)
    if len(matrix) > options.cohort:
        rng = np.random.default_rng(draw_seed(options.seed, 1))
        matrix = matrix[np.sort(rng.choice(len(matrix), options.cohort, replace=False))]
    top = options.top if options.kind == "as-norm" else None
    return BackEnd(mean, Cohort(matrix, top, "speakers" if options.labels else "utterances"))


def _clusters(matrix: Floats, options: BackEndOptions) -> Labels:
    vectors = torch.from_numpy(np.ascontiguousarray(matrix))
    return partition(vectors, options.clusters, options.clustering, seed=options.seed).numpy()


def _means(matrix: Floats, labels: Labels) -> Floats:
    """Return (K, D) the mean embedding of each speaker."""
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), matrix.shape[1]))
    np.add.at(sums, index, matrix)
    return (sums / sizes[:, None]).astype(np.float32)


def fit_model_backend(
    model: Model,
    manifests: Sequence[Manifest],
    options: BackEndOptions,
    *,
    command: str = "",
    device: str | torch.device | None = None,
    cache: EmbeddingCache | None = None,
    progress: bool = False,
) -> BackEnd:
    """Embed the utterances of manifests and fit a back end for a model.

    Labels are read only with ``options.labels``; its provenance then says that speakers were known.

    Args:
        model: the model whose embeddings these are.
        manifests: utterances that are in no trial list; speakers of two manifests are different speakers.
        options: what to fit.
        command: the command that fits it, for the provenance.
        device: device to embed on.
        cache: take embeddings from it, and write others into it.
        progress: show a progress bar.
    """
    matrices, numbers, before = [], [], 0
    names: list[str] = []
    for manifest in manifests:
        source = manifest.without_labels()
        embeddings = embed_files(model.encoder, source, device=device, cache=cache, progress=progress)
        matrices.append(embeddings.matrix)
        if options.labels:
            labels = number_labels(manifest)
            numbers.append(np.where(labels.speakers < 0, -1, labels.speakers.astype(np.int64) + before))
            before += len(labels.speaker_names)
            names += labels.speaker_names
    speakers = np.concatenate(numbers) if options.labels else None
    matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
    backend = fit_backend(matrix, options, speakers)
    provenance = {
        "options": asdict(options),
        "known": known_as(names),
        "utterances": len(matrix),
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return BackEnd(backend.mean, backend.cohort, backend.plda, provenance)
