"""Label a corpus by clusters of a model's embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from idemvox.clustering.partition import Clustering, partition
from idemvox.clustering.purity import nmi, purity
from idemvox.clustering.whitening import whiten
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest, save_manifest
from idemvox.corpus.pseudo import is_pseudo, pseudo_names, source_name
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import write_json
from idemvox.model import Model, fingerprint
from idemvox.processes import command_line
from idemvox.verification.embed import embed_files

__all__ = ["LabelOptions", "Labelled", "label", "save_labelled", "sidecar"]

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How pseudo-speakers are found.

    Attributes:
        clusters: number of clusters; ``None`` chooses it without labels, by the silhouette.
        clustering: ``agglomerative`` (average linkage by cosine) or spherical ``kmeans``.
        exact_up_to: agglomeration of more utterances than this starts from so many small clusters by k-means
            (Miara et al., 2024: 50,000, then 7,500 speakers).
        iterations: of k-means.
        whiten: power of the singular values that the centred embeddings are divided by
            (:func:`~idemvox.clustering.whitening.whiten`); 0 only centres them.
        min_utterances: smaller clusters are left out of the manifest.
        seed: for k-means.
    """

    clusters: int | None = None
    clustering: Clustering = "agglomerative"
    exact_up_to: int = 50_000
    iterations: int = 10
    whiten: float = 0.0
    min_utterances: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clustering not in get_args(Clustering):
            have = ", ".join(get_args(Clustering))
            raise IdemvoxError(f"unknown clustering {self.clustering!r}; have: {have}")
        if (self.clusters is not None and self.clusters < 2) or self.exact_up_to < 2:
            raise IdemvoxError("there must be at least 2 clusters")
        if not 0 <= self.whiten <= 1 or min(self.min_utterances, self.iterations) < 1:
            raise IdemvoxError("whiten is from 0 to 1, min_utterances and iterations are 1 or more")


@dataclass(frozen=True, slots=True)
class Labelled:
    """A corpus with pseudo-speakers.

    Attributes:
        manifest: the utterances that are in a cluster, with pseudo-speakers as speakers.
        about: what the sidecar tells: model, options, counts and, where speakers were known, ``purity`` and
            ``nmi`` of the clusters of at least ``min_utterances``.
    """

    manifest: Manifest
    about: Mapping[str, Any]


def label(
    model: Model,
    manifest: Manifest,
    options: LabelOptions,
    *,
    device: str | torch.device | None = None,
    progress: bool = False,
) -> Labelled:
    """Embed every utterance, cluster the embeddings, and let the clusters stand for speakers.

    The labels of the manifest play no part in this. They are only compared with the result.

    Args:
        model: the model that embeds.
        manifest: the corpus to label.
        options: how to cluster.
        device: device to embed and cluster on.
        progress: show a progress bar.

    Raises:
        CorpusError: fewer than two clusters are left.
    """
    source = manifest.without_labels()
    matrix = embed_files(model.encoder, source, device=device, progress=progress).matrix
    vectors = whiten(torch.from_numpy(matrix).to(device or "cpu"), options.whiten)
    found = partition(
        vectors,
        options.clusters,
        options.clustering,
        exact_up_to=options.exact_up_to,
        iterations=options.iterations,
        seed=options.seed,
    )
    clusters = _large(found.cpu().numpy(), options.min_utterances)
    count = int(clusters.max(initial=-1)) + 1
    if count < 2:
        raise CorpusError(
            f"{count} clusters have at least {options.min_utterances} of the {len(manifest):,} utterances, "
            "too few to train on: lower --min-utterances, or set --clusters"
        )
    known = model.provenance.get("known", [])
    rows = [(u.id, cluster) for u, cluster in zip(manifest, clusters.tolist(), strict=True)]
    name = source_name(model.provenance.get("recipe", "model"), known, rows)
    names = pseudo_names(name, count)
    kept = [
        replace(u, speaker=names[cluster])
        for u, cluster in zip(manifest, clusters.tolist(), strict=True)
        if cluster >= 0
    ]
    about = {
        "pseudo-speakers of": name,
        "model": str(model.folder),
        "fingerprint": fingerprint(model.folder),
        "known": known,
        "options": asdict(options),
        "clusters": count,
        "utterances": len(kept),
        "left out": len(manifest) - len(kept),
        **_compared(clusters, manifest),
        "command": command_line(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Labelled(Manifest(kept, manifest.root), about)


def _large(clusters: Numbers, least: int) -> Numbers:
    """Number the clusters of at least ``least`` utterances from 0 by size; -1 for all others."""
    of, size = np.unique(clusters[clusters >= 0], return_counts=True)
    large = of[np.argsort(-size, kind="stable")][: int((size >= least).sum())]
    number = np.full(int(of.max(initial=-1)) + 2, -1)  # the last one is that of cluster -1
    number[large] = np.arange(len(large))
    return number[clusters]


def _compared(clusters: Numbers, manifest: Manifest) -> dict[str, float]:
    """Return purity and NMI of clusters where the manifest knows speakers."""
    if any(is_pseudo(name) for name in manifest.speakers):
        return {}
    speakers = number_labels(manifest).speakers
    found = {"purity": purity(clusters, speakers), "nmi": nmi(clusters, speakers)}
    return {name: value for name, value in found.items() if value is not None}


def sidecar(file: Path) -> Path:
    """Return the file beside a manifest that says where its pseudo-speakers come from."""
    return file.with_name(f"{file.name}.json")


def save_labelled(labelled: Labelled, file: str | Path) -> None:
    """Write the manifest and, before it, its sidecar: a manifest that is there is complete."""
    file = Path(file)
    write_json(sidecar(file), dict(labelled.about))
    save_manifest(labelled.manifest, file)
