"""idemvox adapt: a model continued on unlabelled recordings, if that helps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from idemvox.cli.common import Quiet, console, resumable

if TYPE_CHECKING:
    from idemvox.studies.adapt import Adaptation

__all__ = ["adapt"]

NOT_HELPED = 3
"""Exit status if the adapted model is not better; 1 is an error, and 2 a mistake in the command."""


def adapt(
    recordings: Annotated[Path, typer.Argument(help="A folder of audio, or a manifest; no labels needed.")],
    model: Annotated[
        Path, typer.Option("--from", help="The model to adapt: a run folder, or the model folder in it.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE of the recipe, such as training.batch=64", metavar="[KEY=VALUE]..."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the run and the adapted model.")] = Path("runs/adapt"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training.")] = 8,
    lr: Annotated[float, typer.Option(help="Learning rate; it is halved twice.")] = 1e-4,
    clusters: Annotated[
        int | None,
        typer.Option(min=2, help="Clusters of recordings; default: half the number of recordings."),
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of the recordings to measure on.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run and of what is held out.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a model to your recordings: SSPS with recordings known, no labels, and an honest verdict.

    Each file counts as one recording (a manifest may name them). SSPS clusters the recordings and pulls
    together utterances of different recordings of a cluster. A fifth of the recordings is not trained on.
    Both models embed it, and the label-free pseudo-EER decides: two crops of an utterance, one of them
    through a simulated channel, against crops of other recordings. Only labelled trials can tell the true
    error rate; if you have some, run `idemvox evaluate OUT/model TRIALS --against MODEL`.

    The exit status is 0 if it helped and OUT/model was written, 3 if it did not. After Ctrl-C, run the same
    command again to resume. Calibrate the adapted model before it decides.

    Examples:

      idemvox adapt calls/ --from models/ge2e --out runs/calls

      idemvox adapt calls.csv --from runs/ssps training.batch=64 --epochs 12
    """
    from idemvox.studies.adapt import AdaptOptions
    from idemvox.studies.adapt import adapt as run

    options = AdaptOptions(epochs, lr, clusters, held_out, seed, tuple(overrides or ()))
    with resumable(f"stopped; run the same command again to resume (everything is in {out})"):
        found = run(recordings, model, out, options, progress=not quiet)
    if as_json:
        console.print_json((out / "adaptation.json").read_text(encoding="utf-8"))
    else:
        console.print(_table(found))
        console.print(str(found), markup=False, highlight=False)
        if found.model is not None:
            console.print(f"model: {found.model}; set its threshold with `idemvox calibrate`", markup=False)
    if not found.helped:
        raise typer.Exit(NOT_HELPED)


def _table(found: Adaptation) -> Table:
    """Return the gauges before and after."""
    title = f"{found.recordings} recordings to learn from, {found.held_out} held out; no labels"
    table = Table(title=title, title_justify="left")
    table.add_column("gauge")
    for heading in ("before", "after"):
        table.add_column(heading, justify="right")
    for name, value in found.before.items():
        shown = name.removeprefix("gauge_").replace("_", " ")
        table.add_row(shown, f"{value:.4g}", f"{found.after.get(name, float('nan')):.4g}")
    return table
