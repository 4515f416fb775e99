"""idemvox label and iterate: pseudo-speakers for a corpus without labels, and rounds of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from idemvox.cli.common import Device, Model, Quiet, console, fetch_device, resumable
from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.studies.iterate import Rounds

__all__ = ["iterate", "label"]

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
        help="With more utterances than this, k-means first reduces them to this many small clusters.",
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


def iterate(
    recipe: Annotated[
        str, typer.Argument(help="A supervised recipe: a name from `idemvox recipes`, or a YAML file.")
    ],
    overrides: Annotated[
        list[str],
        typer.Argument(
            help="KEY=VALUE for all rounds; KEY=VALUE,VALUE,... gives each round its own.",
            metavar="KEY=VALUE...",
        ),
    ],
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    weights: Annotated[
        Literal["start", "last", "none"],
        typer.Option(
            help="What each round starts from: the weights of start_from, of the last round, or random ones."
        ),
    ] = "start",
    final: Annotated[
        str | None,
        typer.Option(
            help="Recipe of a last stage that continues the last round on the same pseudo-speakers, such as "
            "large-margin; with the encoder of RECIPE.",
        ),
    ] = None,
    clusters: Clusters = None,
    clustering: ClusteringName = "agglomerative",
    small_clusters: Small = 50_000,
    whiten: Whiten = 0.0,
    min_utterances: MinUtterances = 1,
    trials: Annotated[
        list[Path] | None, typer.Option(help="Lists to score every round on; they decide nothing.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="Manifest with the utterances of the trials.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all output; default: runs/iterate-RECIPE")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Label a corpus by clusters, train on them, label it again with the new model, and so on.

    start_from is the model that labels first; data.manifest is the corpus, whose speakers are only compared
    with the clusters. After Ctrl-C, run the same command again to resume. Writes rounds.md and rounds.json.

    Loss-gated learning with the published gates, and a last stage with a large margin:

      idemvox iterate lgl start_from=runs/simclr-ssps \\
        data.manifest=train.csv framework.threshold=1,3,3,5,6 --rounds 5 \\
        --clusters 6000 --clustering kmeans --final large-margin \\
        --trials vox1-O.txt --manifest vox1.csv
    """
    from idemvox.processes import command_line
    from idemvox.pseudo.labelling import LabelOptions
    from idemvox.recipe import load_recipe
    from idemvox.reports.results import write_results
    from idemvox.studies.iterate import Rounds
    from idemvox.studies.jobs import TestSet
    from idemvox.studies.sweep import read_grid

    if (manifest is None) != (not trials):
        raise IdemvoxError("--trials and --manifest go together: give both or neither")
    plain, each = read_grid(overrides)
    common = load_recipe(recipe).override(plain)
    last = None
    if final is not None:
        update = {"encoder": common.encoder, "frontend": common.frontend, "seed": common.seed}
        last = load_recipe(final).model_copy(update=update)
        last = last.override([f"training.device={common.training.device}"])
    study = Rounds(
        out or Path("runs") / f"iterate-{common.name}",
        common,
        LabelOptions(
            clusters,
            clustering,  # type: ignore[arg-type]  # checked there, with a better message
            exact_up_to=small_clusters,
            whiten=whiten,
            min_utterances=min_utterances,
        ),
        rounds,
        weights,
        each,
        last,
        tuple(TestSet(path.stem, path, manifest) for path in trials or () if manifest is not None),
    )
    with resumable(f"stopped; run the same command again to resume (everything is in {study.folder})"):
        study.run(console, progress=not quiet)
    rows = study.rows()
    _print_rounds(study, rows)
    written = write_results(study.folder, "rounds", f"Rounds of {common.name}", command_line(), rows)
    console.print(f"written: {', '.join(map(str, written))}", highlight=False)


def _print_rounds(study: Rounds, rows: list[dict[str, Any]]) -> None:
    """Print a table by round."""
    columns = {
        "trials": ("trials", 1, ""),
        "eer": ("EER %", 100, ".2f"),
        "clusters": ("pseudo-speakers", 1, ","),
        "utterances": ("utterances", 1, ","),
        "purity": ("purity", 1, ".3f"),
        "nmi": ("NMI", 1, ".3f"),
        "kept": ("kept %", 100, ".0f"),
        "corrected": ("corrected %", 100, ".0f"),
    }
    shown = [key for key in columns if any(key in row for row in rows)]
    table = Table(title=f"{study.recipe.name}: {study.count} rounds")
    table.add_column("stage")
    for key in shown:
        table.add_column(columns[key][0], justify="left" if key == "trials" else "right")
    for row in rows:
        cells = []
        for key in shown:
            value = row.get(key)
            value = value[0] if isinstance(value, list) else value
            _, scale, how = columns[key]
            cells.append("" if value is None else str(value) if how == "" else f"{scale * value:{how}}")
        table.add_row(row["system"], *cells)
    console.print(table)
