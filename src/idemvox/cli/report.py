"""idemvox check-report and report: certificates of evaluations, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from idemvox.cli.common import Device, Quiet, console, fetch_device
from idemvox.errors import IdemvoxError

Folders = Annotated[
    list[Path], typer.Argument(help="Folders from `idemvox evaluate --certificate`.", metavar="FOLDER...")
]

Audio = Literal["none", "worst", "all"]

__all__ = ["check_report", "report"]


def check_report(
    folders: Folders,
    model: Annotated[
        Path | None, typer.Option(help="Also check that they are about this run or model folder.")
    ] = None,
    trials: Annotated[
        Path | None, typer.Option(help="Also check that they are about this trial list.")
    ] = None,
) -> None:
    """Recompute every number of a certificate from its scores; fail if one differs.

    Fails too if a file was changed, or if --model or --trials are others than those evaluated. The exit
    status is 1 if anything differs, and each difference is printed.

    Example:

      idemvox check-report checked --model runs/ssps --trials trials.txt
    """
    from idemvox.verification.certificate import check_certificate

    failed = False
    for folder in folders:
        problems = check_certificate(folder, model, trials)
        for problem in problems:
            console.print(f"{folder}: {problem}", markup=False, highlight=False, soft_wrap=True)
        if not problems:
            console.print(f"{folder}: every number can be computed again", markup=False, highlight=False)
        failed = failed or bool(problems)
    if failed:
        raise typer.Exit(1)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, or folders from `idemvox evaluate --certificate`.", metavar="FOLDER..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of the utterances: results by condition, players, the t-SNE."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Or the folder that the paths in the trials start from: players alone."),
    ] = None,
    audio: Annotated[
        Audio,
        typer.Option(help="Recordings in the page: none, of the worst errors, or also of the t-SNE."),
    ] = "all",
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Speaker verification report",
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Write a report page from runs and certificates: one HTML file that needs no network.

    Certificates give the results with their intervals, the differences of all systems to the first one on the
    same trials, DET curves, histograms of the scores, and the worst errors with players for both recordings.
    Every number is computed again first. A run folder gives the certificates in it, its training curves and
    gauges, and a t-SNE of some speakers of the manifest, whose points can be played.

    The page holds the start of some recordings, 20 MB at most: choose --audio none before you give it to
    people who may not hear them.

    Examples:

      idemvox report runs/simclr runs/ssps --manifest test.csv

      idemvox report checked/simclr checked/ssps --root vox1/wav --audio none
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.reports.page import report_page

    if root is not None and manifest is not None:
        raise IdemvoxError("give --root or --manifest, not both")
    listed = None if manifest is None else load_manifest(manifest)
    written = report_page(
        folders,
        out,
        manifest=listed,
        root=root,
        title=title,
        audio=audio,
        device=fetch_device(device),
        progress=not quiet,
    )
    console.print(f"report: {written} ({written.stat().st_size / 1e6:.1f} MB)", highlight=False)
