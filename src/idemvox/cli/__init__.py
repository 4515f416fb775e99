"""The command line: parse, call, print."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from idemvox.cli import decide
from idemvox.cli.adapt import adapt
from idemvox.cli.backend import backend
from idemvox.cli.calibrate import calibrate
from idemvox.cli.corpus import doctor, pack
from idemvox.cli.embed import embed
from idemvox.cli.evaluate import evaluate
from idemvox.cli.export import export
from idemvox.cli.importers import CorporaCommand
from idemvox.cli.learn import average, demo, recipes, sweep, train
from idemvox.cli.picture import picture
from idemvox.cli.prepare import prepare
from idemvox.cli.pseudo import iterate, label
from idemvox.cli.report import check_report, report
from idemvox.cli.serve import serve
from idemvox.cli.speakers import enrol, identify, speakers
from idemvox.cli.trials import trials
from idemvox.cli.weights import import_weights
from idemvox.errors import IdemvoxError
from idemvox.extras import TORCH, missing_torch

__all__ = ["app", "main"]

PATH = {
    "1. Prepare: from audio to a manifest": (prepare, doctor, pack),
    "2. Train: from a manifest to a model": (
        recipes,
        train,
        adapt,
        label,
        iterate,
        average,
        sweep,
        import_weights,
    ),
    "3. Evaluate: how good is it, and where is the threshold?": (
        *(trials, evaluate, check_report, report, backend, calibrate, picture),
    ),
    "4. Verify: who is it?": (decide.verify, embed, enrol, identify, speakers, export, serve),
    "All at once": (demo,),
}
"""The commands in the order in which they are needed, by their heading in `idemvox --help`."""


class InOrder(TyperGroup):
    """A group that lists its commands in the order of ``PATH``; typer lists groups of commands first."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = [_name(command) for commands in PATH.values() for command in commands]
        return sorted(super().list_commands(ctx), key=names.index)


def _name(command: Any) -> str:
    """Return what a command is called on the command line."""
    return str(command.info.name if isinstance(command, typer.Typer) else command.__name__).replace("_", "-")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"idemvox {version('idemvox')}")
        raise typer.Exit


app = typer.Typer(
    cls=InOrder,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def idemvox(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Self-supervised speaker verification: are two recordings of the same person?

    From recordings to a decision:

      idemvox prepare folder calls/ --out calls.csv

      idemvox train small data.manifest=calls.csv --out runs/simclr

      idemvox evaluate runs/simclr trials.txt --root calls/

      idemvox calibrate runs/simclr trials.txt --root calls/

      idemvox verify monday.wav tuesday.wav --model runs/simclr

    Or see all of it on real voices:

      idemvox demo
    """


for panel, commands in PATH.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            cls = CorporaCommand if command is doctor else None
            app.command(cls=cls, rich_help_panel=panel)(command)


def main() -> None:
    """Run the command line; errors the user can fix are printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app(standalone_mode=True)
    except IdemvoxError as error:
        _say(error)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in TORCH:
            raise
        _say(missing_torch("this command"))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _say(error: IdemvoxError) -> None:
    Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {error}"))
