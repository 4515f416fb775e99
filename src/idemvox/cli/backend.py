"""idemvox backend: fit what is applied when embeddings are compared, and store it with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Cache, Device, Model, Quiet, console, fetch_device
from idemvox.errors import IdemvoxError

__all__ = ["backend"]


def backend(
    model: Model,
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Manifests of utterances to fit on, such as the training set; never those of a trial list."
            " Without any, the model's back end is shown.",
            metavar="[MANIFEST]...",
        ),
    ] = None,
    scoring: Annotated[
        str, typer.Option(help="mean, s-norm, as-norm or plda; all subtract the mean embedding.")
    ] = "as-norm",
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Use the speakers: for PLDA, or as a cohort of one mean embedding per speaker."
        ),
    ] = False,
    clusters: Annotated[
        int | None,
        typer.Option(min=2, help="PLDA without labels: number of pseudo-speakers to find."),
    ] = None,
    clustering: Annotated[str, typer.Option(help="agglomerative or kmeans.")] = "agglomerative",
    top: Annotated[
        int, typer.Option(min=2, help="AS-norm: scores against the nearest so many of the cohort count.")
    ] = 300,
    cohort: Annotated[int, typer.Option(min=2, help="S-norm and AS-norm: most members, drawn.")] = 10_000,
    lda: Annotated[int, typer.Option(min=0, help="Numbers that PLDA reduces embeddings to; 0: all.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the model's back end.")] = False,
    device: Device = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Fit a back end on the embeddings of utterances, which need no labels, and store it with the model.

    From then on `evaluate`, `verify` and all other commands score with it. Scores change: the model's report
    and calibration are removed, so run `idemvox evaluate` and `idemvox calibrate` again.

    mean subtracts the mean embedding before the cosine. s-norm and as-norm also compare each score with the
    scores of both recordings against a cohort of other utterances. plda fits a Gaussian model of speakers and
    recordings, to speakers (--labels) or to clusters that stand for them (--clusters).

    Examples:

      idemvox backend runs/ssps train.csv

      idemvox backend runs/dino train.csv --scoring plda --clusters 7500

      idemvox backend runs/ssps --remove
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.processes import command_line
    from idemvox.verification.backend_file import remove_backend, save_backend
    from idemvox.verification.embed import EmbeddingCache
    from idemvox.verification.fitting import BackEndOptions, fit_model_backend
    from idemvox.verification.scoring import Scorer

    loaded = load_model(model)
    if remove:
        if manifests:
            raise IdemvoxError("give --remove or manifests, not both")
        had = remove_backend(loaded.folder)
        console.print("back end removed" if had else "this model has no back end")
    elif manifests:
        options = BackEndOptions(
            scoring,  # type: ignore[arg-type]  # checked there, with a better message
            labels,
            clusters,
            clustering,  # type: ignore[arg-type]
            top=top,
            cohort=cohort,
            lda=lda,
            seed=seed,
        )
        fitted = fit_model_backend(
            loaded,
            [load_manifest(file) for file in manifests],
            options,
            command=command_line(),
            device=fetch_device(device),
            cache=None if cache is None else EmbeddingCache.of(loaded, cache),
            progress=not quiet,
        )
        console.print(f"back end: {save_backend(loaded.folder, fitted)}")
    console.print(f"scored by: {Scorer.of(loaded)}")
