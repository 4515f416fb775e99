"""idemvox evaluate, embed and verify: what a model is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idemvox.cli.common import Device, Model, Quiet, console, fetch_device
from idemvox.errors import IdemvoxError

__all__ = ["embed", "evaluate", "verify"]

Root = Annotated[Path | None, typer.Option(help="Folder that the paths in the trials start from.")]
ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest with the trials' utterances.")
]


def evaluate(
    model: Model,
    trials: Annotated[
        list[Path], typer.Argument(help="VoxCeleb-style lists: 'label path path', 1 = same speaker.")
    ],
    root: Root = None,
    manifest: ManifestFile = None,
    out: Annotated[Path | None, typer.Option(help="Write the report as JSON here too.")] = None,
    store: Annotated[
        bool, typer.Option(help="Keep the (first) report with the model, as the threshold of `verify`.")
    ] = True,
    device: Device = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the encoder's arithmetic.")] = "fp32",
    quiet: Quiet = False,
) -> None:
    """Score trial lists by the cosine of full-length embeddings: EER and minDCF.

    Give --manifest (its ids or paths are looked up; with speakers in it the EER gets a confidence
    interval) or --root (the folder that paths start from).
    """
    from idemvox.files import write_json
    from idemvox.model import load_model
    from idemvox.processes import command_line
    from idemvox.verification.embed import embed_files
    from idemvox.verification.report import evaluate as score
    from idemvox.verification.report import reports_table, store_report, trial_utterances
    from idemvox.verification.trials import load_trials

    source = _source(root, manifest)
    loaded = load_model(model)
    lists = [load_trials(path) for path in trials]
    embeddings = embed_files(
        loaded.encoder,
        trial_utterances(lists, source),
        device=fetch_device(device),
        precision=precision,
        progress=not quiet,
    )
    reports = [
        score(
            loaded.encoder,
            each,
            source,
            embeddings=embeddings,
            model=loaded.provenance,
            command=command_line(),
            precision=precision,
        )
        for each in lists
    ]
    console.print(reports_table(reports))
    if out is not None:
        write_json(out, [json.loads(report.to_json()) for report in reports])
        console.print(f"report: {out}")
    if store:
        path = store_report(loaded.folder, reports[0])
        console.print(f"stored with the model, as the threshold of `idemvox verify`: {path}")


def _source(root: Path | None, manifest: Path | None) -> Any:
    from idemvox.corpus.manifest import load_manifest

    if root is not None and manifest is not None:
        raise IdemvoxError("give --root or --manifest, not both")
    if manifest is not None:
        return load_manifest(manifest)
    return root or Path()


def embed(
    model: Model,
    audio: Annotated[list[Path], typer.Argument(help="Audio files, or one manifest (.csv).")],
    out: Annotated[Path, typer.Option(help="File to write: ids and matrix (N, D), for numpy.load.")] = Path(
        "embeddings.npz"
    ),
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Embed recordings whole, one vector each."""
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.verification.embed import embed_files, save_embeddings

    encoder = load_model(model).encoder
    source = load_manifest(audio[0]) if len(audio) == 1 and audio[0].suffix == ".csv" else audio
    found = embed_files(encoder, source, device=fetch_device(device), progress=not quiet)
    save_embeddings(found, out)
    console.print(f"{len(found.ids):,} embeddings of {found.matrix.shape[1]} numbers: {out}")


def verify(
    first: Annotated[Path, typer.Argument(help="One recording.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    model: Annotated[Path, typer.Option(help="A run folder, or the model folder in it.")],
    device: Device = None,
) -> None:
    """Say whether two recordings are of the same person.

    The threshold is that of the equal error rate in the report stored with the model by `idemvox evaluate`.
    """
    from idemvox.verifier import Verifier

    console.print(str(Verifier.load(model, device=fetch_device(device)).verify(first, second)))
