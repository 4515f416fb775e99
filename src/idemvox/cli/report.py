"""idemvox check-report and report: certificates of evaluations, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import console

Folders = Annotated[
    list[Path], typer.Argument(help="Folders from `idemvox evaluate --certificate`.", metavar="FOLDER...")
]

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

      idemvox check-report runs/ssps/certificate --model runs/ssps --trials veri_test2.txt
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
    folders: Folders,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    manifest: Annotated[
        Path | None,
        typer.Option(help="Manifest of the utterances, for results by duration and recording."),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Speaker verification report",
) -> None:
    """Write a report page from certificates: one HTML file that needs no network.

    It has the results with their intervals, the differences of all systems to the first one on the same
    trials, DET curves, histograms of the scores and the worst errors. Every number is computed again first.

    Example:

      idemvox report runs/simclr/certificate runs/ssps/certificate --manifest test.csv
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.reports.page import report_page

    listed = None if manifest is None else load_manifest(manifest)
    written = report_page(folders, out, manifest=listed, title=title)
    console.print(f"report: {written}")
