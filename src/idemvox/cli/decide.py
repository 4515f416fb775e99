"""idemvox verify: decide whether two recordings are of the same person."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idemvox.cli.common import Device, console, fetch_device

if TYPE_CHECKING:
    from rich.table import Table

    from idemvox.verifier.verdict import Verdict

__all__ = ["verify"]

STATUS = {"accept": 0, "reject": 3, "abstain": 4}
"""Exit status by decision; 1 is an error, and 2 a mistake in the command."""


def verify(
    first: Annotated[Path, typer.Argument(help="One recording.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    model: Annotated[Path, typer.Option(help="A run folder, or the model folder in it.")],
    false_accept_rate: Annotated[
        float,
        typer.Option(
            "--false-accept-rate", "--far", help="Share of different speakers that may be accepted."
        ),
    ] = 0.01,
    min_speech: Annotated[float, typer.Option(help="Seconds of speech that each recording must have.")] = 1.0,
    tolerate: Annotated[
        list[str] | None,
        typer.Option(
            help="Only warn of this reason: clipping, channels, bandwidth or uncertain; may be given several"
            " times."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Device = None,
) -> None:
    """Decide whether two recordings are of the same person: accept, reject, or abstain with the reason.

    Only speech is compared; silence around it changes nothing. There is no decision if a recording has too
    little speech, or none; if it is clipped heavily; if its channels cancel each other; if one recording is
    of telephone bandwidth and the other is not; if the result is too near the threshold. A model needs
    `idemvox calibrate` before it decides; without, only the score is shown.

    The exit status is 0 for accept, 3 for reject, 4 for abstain, and 1 for an error.

    Examples:

      idemvox verify monday.wav tuesday.wav --model runs/ssps

      idemvox verify monday.wav tuesday.wav --model runs/ssps --far 0.001 --tolerate bandwidth --json
    """
    from idemvox.verifier.verdict import Limits
    from idemvox.verifier.verifier import Verifier

    limits = Limits(min_speech, tolerate=frozenset(tolerate or ()))  # type: ignore[arg-type]  # it checks them
    verifier = Verifier.load(model, fetch_device(device), limits=limits)
    verdict = verifier.verify(first, second, false_accept_rate=false_accept_rate)
    if as_json:
        typer.echo(json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False))
    else:
        console.print(_table(verdict))
    raise typer.Exit(STATUS[verdict.decision])


def _table(verdict: Verdict) -> Table:
    """Return a verdict as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    words = {"accept": "same speaker", "reject": "different speakers", "abstain": "undecided"}
    colours = {"accept": "bold green", "reject": "bold red", "abstain": "bold yellow"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("verdict", Text(words[verdict.decision], style=colours[verdict.decision]))
    for reason in verdict.reasons:
        table.add_row("because", Text(reason))
    if verdict.llr is not None:
        table.add_row("LLR", f"{verdict.llr:.2f}")
    if verdict.threshold is not None:
        table.add_row("threshold", Text(verdict.threshold_text()))
    if verdict.score is not None:
        table.add_row("score", Text(f"{verdict.score:.3f}" + (f", {verdict.note}" if verdict.note else "")))
    table.add_row("speech", f"{verdict.speech[0]:.1f} s and {verdict.speech[1]:.1f} s")
    for warning in verdict.warnings:
        table.add_row("warning", Text(warning))
    return table
