"""idemvox label: pseudo-speakers for a corpus without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from idemvox.cli.common import Device, Model, Quiet, console, fetch_device

__all__ = ["label"]

Clusters = Annotated[
    int | None,
    typer.Option(min=2, help="Number of clusters; default: the best silhouette, which needs no labels."),
]
ClusteringName = Annotated[str, typer.Option("--clustering", help="agglomerative or kmeans.")]
Small = Annotated[
    int,
    typer.Option(
        "--small-clusters",
        min=2,
        help="Agglomerate so many clusters of k-means, if there are more utterances.",
    ),
]
Whiten = Annotated[
    float, typer.Option(min=0, max=1, help="Power of the whitening before clustering, such as 0.7; 0: none.")
]
MinUtterances = Annotated[int, typer.Option(min=1, help="Leave out the utterances of smaller clusters.")]


def label(
    model: Model,
    manifest: Annotated[Path, typer.Argument(help="Manifest of the utterances to label.")],
    out: Annotated[Path, typer.Option(help="Manifest to write; a sidecar OUT.json tells what was done.")],
    clusters: Clusters = None,
    clustering: ClusteringName = "agglomerative",
    small_clusters: Small = 50_000,
    whiten: Whiten = 0.0,
    min_utterances: MinUtterances = 1,
    seed: Annotated[int, typer.Option(help="Seed of k-means.")] = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Label a corpus by clustering a model's embeddings, to train a classifier on the clusters.

    Every utterance is embedded, and each cluster becomes a pseudo-speaker with a name such as
    pseudo:simclr@1f2e3d4c:0001. Every model that is trained on them says so. Speakers that the manifest knows
    play no part; they are only compared with the clusters (purity, NMI).

    Examples:

      idemvox label runs/ssps train.csv --out pseudo.csv --clusters 6000

      idemvox train supervised start_from=runs/ssps data.manifest=pseudo.csv

    From the pack of the same utterances, if none was left out:

      idemvox train supervised data.manifest=packs/train data.labels=pseudo.csv
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.pseudo.labelling import LabelOptions, save_labelled, sidecar
    from idemvox.pseudo.labelling import label as labelled

    options = LabelOptions(
        clusters,
        clustering,  # type: ignore[arg-type]  # checked there, with a better message
        exact_up_to=small_clusters,
        whiten=whiten,
        min_utterances=min_utterances,
        seed=seed,
    )
    found = labelled(
        load_model(model), load_manifest(manifest), options, device=fetch_device(device), progress=not quiet
    )
    save_labelled(found, out)
    about = found.about
    table = Table(title=f"pseudo-speakers of {about['pseudo-speakers of']}", show_header=False)
    for name in ("clusters", "utterances", "left out"):
        table.add_row(name, f"{about[name]:,}")
    for name in ("purity", "nmi"):
        if name in about:
            table.add_row(f"{name}, by the manifest's speakers", f"{about[name]:.3f}")
    console.print(table)
    console.print(f"manifest: {out}; how it was made: {sidecar(out)}", highlight=False)
