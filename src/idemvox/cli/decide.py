"""idemvox verify: decide whether two recordings, or many pairs of them, are of the same person."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idemvox.cli.common import Device, Quiet, console, fetch_device
from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from rich.table import Table

    from idemvox.verifier.pairs import PairVerdict
    from idemvox.verifier.verdict import Verdict

__all__ = ["verify"]

STATUS = {"accept": 0, "reject": 3, "abstain": 4}
"""Exit status by decision; 1 is an error, and 2 a mistake in the command."""

WORDS = {
    "accept": "same speaker",
    "reject": "different speakers",
    "abstain": "undecided",
    "error": "unreadable",
}


def verify(
    model: Annotated[Path, typer.Option(help="A run folder, or the model folder in it.")],
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Two recordings.", metavar="FIRST SECOND", show_default=False)
    ] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="Instead: a CSV with the columns first and second, paths in each row.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that the paths in --pairs start from; default: the CSV's.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the results for --pairs to this file, .csv or .json.")
    ] = None,
    false_accept_rate: Annotated[
        float,
        typer.Option("--false-accept-rate", "--far", help="Share of different speakers that are accepted."),
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
    quiet: Quiet = False,
) -> None:
    """Decide whether two recordings are of the same person: accept, reject, or abstain with the reason.

    Only speech is compared; silence around it changes nothing. There is no decision if a recording has too
    little speech, or none; if it is clipped heavily; if its channels cancel each other; if one recording is
    of telephone bandwidth and the other is not; if the result is too near the threshold. A model needs
    `idemvox calibrate` before it decides; without, only the score is shown.

    With --pairs, each file is embedded once, and a file that cannot be read is reported with its pairs.

    The exit status is 0 for accept, 3 for reject, 4 for abstain, and 1 for an error. With --pairs it is 0
    if all files could be read, else 1.

    Examples:

      idemvox verify monday.wav tuesday.wav --model runs/ssps

      idemvox verify a.wav b.wav --model runs/ssps --tolerate bandwidth

      idemvox verify --pairs pairs.csv --model runs/ssps --out verdicts.csv
    """
    from idemvox.verifier.verdict import Limits
    from idemvox.verifier.verifier import Verifier

    recordings = recordings or []
    if len(recordings) != (2 if pairs is None else 0):
        raise IdemvoxError("give two recordings, or --pairs with a CSV of them")
    if pairs is None and (root is not None or out is not None):
        raise IdemvoxError("--root and --out belong to --pairs")
    if out is not None and out.suffix not in (".csv", ".json"):
        raise IdemvoxError(f"{out} must end in .csv or .json")
    limits = Limits(min_speech, tolerate=frozenset(tolerate or ()))  # type: ignore[arg-type]  # it checks them
    verifier = Verifier.load(model, fetch_device(device), limits=limits)
    if pairs is not None:
        from idemvox.verifier.pairs import load_pairs, verify_pairs

        root = root or pairs.parent
        rate, show = false_accept_rate, not quiet
        results = verify_pairs(verifier, load_pairs(pairs), root, false_accept_rate=rate, progress=show)
        _show(results, out, as_json)
        raise typer.Exit(int(any(result.verdict is None for result in results)))
    first, second = recordings
    verdict = verifier.verify(first, second, false_accept_rate=false_accept_rate)
    if as_json:
        _print_json(verdict.to_dict())
    else:
        console.print(_table(verdict))
    raise typer.Exit(STATUS[verdict.decision])


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _show(results: Sequence[PairVerdict], out: Path | None, as_json: bool) -> None:
    """Print or write the results for pairs."""
    from rich.table import Table
    from rich.text import Text

    from idemvox.files import write_json
    from idemvox.verifier.pairs import write_pairs

    if out is not None and out.suffix == ".json":
        write_json(out, [result.to_dict() for result in results])
    elif out is not None:
        write_pairs(out, results)
    if as_json:
        _print_json([result.to_dict() for result in results])
        return
    if out is None:
        table = Table()
        for heading in ("first", "second", "verdict", "LLR", "score", "because"):
            table.add_column(heading, justify="right" if heading in ("LLR", "score") else "left")
        for result in results:
            row = result.row()
            numbers = ("" if row.get(key) is None else f"{row[key]:.3f}" for key in ("llr", "score"))
            why = row.get("error") or row["reasons"]
            words = (result.first, result.second, WORDS[result.decision], *numbers, why)
            table.add_row(*(Text(word) for word in words))
        console.print(table)
    counts = Counter(result.decision for result in results)
    said = ", ".join(f"{counts[decision]:,} {WORDS[decision]}" for decision in WORDS)
    where = "" if out is None else f": {out}"
    console.print(f"{len(results):,} pairs: {said}{where}", markup=False, highlight=False, soft_wrap=True)


def _table(verdict: Verdict) -> Table:
    """Return a verdict as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    colours = {"accept": "bold green", "reject": "bold red", "abstain": "bold yellow"}
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("verdict", Text(WORDS[verdict.decision], style=colours[verdict.decision]))
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
