"""The command line: parse, call, print."""

from __future__ import annotations

import logging
import sys

import typer
from rich.console import Console
from rich.text import Text

from idemvox.cli import decide
from idemvox.cli.adapt import adapt
from idemvox.cli.backend import backend
from idemvox.cli.calibrate import calibrate
from idemvox.cli.corpus import doctor, pack
from idemvox.cli.importers import CorporaCommand
from idemvox.cli.learn import average, demo, recipes, sweep, train
from idemvox.cli.prepare import prepare
from idemvox.cli.pseudo import label
from idemvox.cli.report import check_report, report
from idemvox.cli.serve import serve
from idemvox.cli.speakers import enrol, identify, speakers
from idemvox.cli.trials import trials
from idemvox.cli.verify import embed, evaluate, picture
from idemvox.cli.weights import import_weights
from idemvox.errors import IdemvoxError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Self-supervised speaker verification: are two recordings of the same person?\n\n"
    "From recordings to a decision:\n\n"
    "  idemvox prepare folder recordings/ --out train.csv\n\n"
    "  idemvox train simclr data.manifest=train.csv --out runs/simclr\n\n"
    "  idemvox evaluate runs/simclr trials.txt --root recordings/\n\n"
    "  idemvox calibrate runs/simclr trials.txt --root recordings/\n\n"
    "  idemvox verify monday.wav tuesday.wav --model runs/simclr\n\n"
    "Or try all of it on real voices: idemvox demo",
)
app.add_typer(prepare, name="prepare")
app.add_typer(speakers, name="speakers")
app.add_typer(trials, name="trials")
app.command(cls=CorporaCommand)(doctor)
for command in (
    *(pack, train, label, average, sweep, recipes, import_weights, adapt),
    *(
        backend,
        evaluate,
        check_report,
        report,
        calibrate,
        embed,
        decide.verify,
        enrol,
        identify,
        serve,
        picture,
        demo,
    ),
):
    app.command()(command)


def main() -> None:
    """Run the command line; errors the user can fix are printed without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        app(standalone_mode=True)
    except IdemvoxError as error:
        Console(stderr=True).print(Text.assemble(("error:", "bold red"), f" {error}"))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
