"""idemvox check-report: compute the numbers of a certificate again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import console

__all__ = ["check_report"]


def check_report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders from `idemvox evaluate --certificate`.", metavar="FOLDER..."),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Also check that they are about this run or model folder.")
    ] = None,
    trials: Annotated[
        Path | None, typer.Option(help="Also check that they are about this trial list.")
    ] = None,
) -> None:
    """Compute every number of a certificate again from its scores; fail if one differs.

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
