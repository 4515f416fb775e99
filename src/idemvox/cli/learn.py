"""idemvox train, recipes and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from idemvox.cli.common import Quiet, console, resumable
from idemvox.errors import IdemvoxError

__all__ = ["demo", "recipes", "train"]


def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, such as recipes/simclr.yaml")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE, such as training.epochs=10", metavar="[KEY=VALUE]..."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME-OF-RECIPE")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder by a recipe.

    Labels are read by supervised recipes only. To go on with another recipe from a finished run:
    idemvox train recipes/simclr-ssps.yaml start_from=runs/simclr data.manifest=train.csv
    """
    from idemvox.recipe import load_recipe
    from idemvox.training.loop import train as run

    resolved = load_recipe(recipe).override(overrides or [])
    folder = out or Path("runs") / resolved.name
    how = f"stopped; go on with the same command and --resume (finished epochs are in {folder})"
    with resumable(how):
        trained = run(resolved, folder, resume=resume, progress=not quiet)
    table = Table(title=f"{resolved.name}: {trained.epochs} epochs", show_header=False)
    for name, value in trained.numbers.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)
    console.print(f"model: {trained.model}")


def recipes(
    folder: Annotated[Path, typer.Argument(help="Folder of recipes.")] = Path("recipes"),
) -> None:
    """List the recipes of a folder, with what the paper reports for each."""
    from idemvox.recipe import load_recipe

    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise IdemvoxError(f"no recipes (*.yaml) in {folder}")
    table = Table(title="EER (%) and minDCF (p = 0.01) as published, on VoxCeleb1-O", title_justify="left")
    table.add_column("recipe", no_wrap=True)
    table.add_column("EER", justify="right", no_wrap=True)
    table.add_column("minDCF", justify="right", no_wrap=True)
    table.add_column("what it is")
    for file in files:
        r = load_recipe(file)
        eer = f"{r.published.eer:.2f}" if r.published else ""
        dcf = f"{r.published.mindcf_001:.4f}" if r.published and r.published.mindcf_001 else ""
        table.add_row(file.stem, eer, dcf, r.description)
    console.print(table)


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for everything it makes; default: runs/demo, with -full or -CORPUS added."),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="A labelled manifest to run the same study on, instead of the demo's voices."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Longer training, more simulated recordings.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat the whole study with this many seeds.")] = 1,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Use built-in synthetic voices even where real ones could be had."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Show the main job on real voices: SimCLR, then SSPS against two other ways to go on.

    Ctrl-C and the same command again go on where it stopped.
    """
    from idemvox.demo import FULL, SMALL, run_demo

    parts = ["demo", *([corpus.stem] if corpus else []), *(["full"] if full else [])]
    out = out or Path("runs") / "-".join(parts)
    with resumable(f"stopped; the same command goes on where it was (all is in {out})"):
        run_demo(
            out,
            corpus,
            size=FULL if full else SMALL,
            seeds=seeds,
            synthetic=synthetic,
            console=console,
            progress=not quiet,
        )
