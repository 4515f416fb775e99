"""idemvox train, average, sweep, recipes and demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from idemvox.cli.common import Quiet, console, resumable
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

if TYPE_CHECKING:
    from idemvox.recipe import Recipe

__all__ = ["average", "demo", "recipes", "sweep", "train"]

RecipeName = Annotated[
    str, typer.Argument(help="A name that `idemvox recipes` lists, or the path of a YAML file.")
]


def train(
    recipe: RecipeName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE, such as training.epochs=10", metavar="[KEY=VALUE]..."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME-OF-RECIPE")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs (or parts of a CPU) to train on; training.batch is of all.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Two steps of every phase: what time and memory it all takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder by a recipe.

    Labels are read by supervised recipes only. To go on with another recipe from a finished run:
    idemvox train simclr-ssps start_from=runs/simclr data.manifest=train.csv
    """
    from idemvox.recipe import load_recipe
    from idemvox.training.launch import train_on

    resolved = load_recipe(recipe).override(overrides or [])
    if dry_run:
        if devices > 1:
            raise IdemvoxError(
                f"a dry run is of one device: leave --devices out, and give that device's part of the batch, "
                f"training.batch={max(1, resolved.training.batch // devices)}"
            )
        _rehearse(resolved)
        return
    folder = out or Path("runs") / resolved.name
    how = "stopped; go on with the same command and --resume"
    with resumable(how):
        trained = train_on(devices, resolved, folder, resume=resume, progress=not quiet)
    if trained is None:  # another process of torchrun's says it
        return
    table = Table(title=f"{resolved.name}: {trained.epochs} epochs", show_header=False)
    for name, value in trained.numbers.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)
    console.print(f"model: {trained.model}")


def _rehearse(recipe: Recipe) -> None:
    """Print what a dry run found."""
    from idemvox.training.watch.dry_run import rehearse
    from idemvox.training.watch.forecast import span

    found = rehearse(recipe)
    table = Table(title=f"{recipe.name}: two steps of every phase")
    for heading in ("phase", "each", "how many", "in all", "memory, GiB"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase in found.phases:
        each, memory = f"{phase.each:.3g} s", f"{phase.memory / 2**30:.2f}"
        table.add_row(phase.name, each, f"{phase.units:,}", span(phase.seconds), memory)
    console.print(table)
    console.print(found.said, highlight=False)


def average(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    last: Annotated[
        int, typer.Option(min=1, help="Checkpoints of whole epochs; training.keep are kept.")
    ] = 2,
) -> None:
    """Average the weights of a run's last epochs into a model.

    idemvox train simclr training.keep=10 ... and then
    idemvox average runs/simclr --last 10 --out runs/simclr-averaged
    """
    from idemvox.training.state.averaging import average as averaged

    model = averaged(run, last, out)
    console.print(f"mean of {', '.join(model.provenance['averaged'])}", highlight=False)
    console.print(f"model: {model.folder}")


def sweep(
    recipe: RecipeName,
    overrides: Annotated[
        list[str],
        typer.Argument(
            help="KEY=VALUE for all runs; KEY=VALUE,VALUE,... to try each", metavar="KEY=VALUE,VALUE..."
        ),
    ],
    trials: Annotated[list[Path], typer.Option(help="VoxCeleb-style lists to score on.")],
    manifest: Annotated[Path, typer.Option(help="Manifest with the trials' utterances.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs; default: runs/sweep-RECIPE")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; more than one only on CPUs.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train a recipe with every combination of some settings, and score each.

    Table 2 of the SSPS paper (K and M):

    idemvox sweep simclr-ssps start_from=runs/simclr data.manifest=train.csv
    positives.clusters=6000,10000,25000,150000 positives.neighbours=0,1,2
    --trials vox1-O.txt --manifest vox1.csv

    Choose on speakers of the training corpus that you hold out, not on the list that you report. Writes
    sweep.md and sweep.json beside the runs. Ctrl-C and the same command again go on where it stopped.
    """
    from idemvox.processes import command_line
    from idemvox.recipe import load_recipe
    from idemvox.reports.results import write_results
    from idemvox.studies.jobs import TestSet
    from idemvox.studies.sweep import Sweep, read_grid

    plain, grid = read_grid(overrides)
    if not grid:
        raise IdemvoxError("nothing to sweep: give a key several values, such as positives.neighbours=0,1,2")
    common = load_recipe(recipe).override(plain)
    folder = out or Path("runs") / f"sweep-{common.name}"
    tests = tuple(TestSet(path.stem, path, manifest) for path in trials)
    runs = Sweep(folder, common, grid, tests, tuple(range(common.seed, common.seed + seeds)), jobs)
    with resumable(f"stopped; the same command goes on where it was (all is in {folder})"):
        runs.run(console, progress=not quiet)
    rows = runs.rows()
    table = Table(title=f"{common.name}: {len(runs.points())} combinations, {seeds} of each")
    for heading in ("settings", "trials", "EER %", "minDCF p=0.01", "replaced %", "right speaker %"):
        table.add_column(heading, justify="left" if heading in ("settings", "trials") else "right")
    for row in rows:
        shown = [
            f"{scale * sum(row[key]) / seeds:.{digits}f}" if key in row else ""
            for key, scale, digits in (
                ("eer", 100, 2),
                ("mindcf_001", 1, 4),
                ("coverage", 100, 0),
                ("speaker_accuracy", 100, 0),
            )
        ]
        table.add_row(row["system"], row["trials"], *shown)
    console.print(table)
    written = write_results(folder, "sweep", f"Sweep of {common.name}", command_line(), rows)
    console.print(f"written: {', '.join(map(str, written))}", highlight=False)


def recipes(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of recipes; default: those that come with idemvox.")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write that recipe into this folder, to edit it.")
    ] = None,
) -> None:
    """List the recipes that come with idemvox, with what the paper reports for each.

    Their names work in any folder: idemvox train simclr data.manifest=train.csv
    """
    from idemvox.recipe import load_recipe
    from idemvox.recipes import FOLDER

    if copy is not None:
        _copy_recipe(copy)
        return
    folder = folder or FOLDER
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise IdemvoxError(f"no recipes (*.yaml) in {folder}")
    table = Table(
        title="As published: EER (%) and minDCF (p = 0.01) on VoxCeleb1-O, EER on VOiCES 2019 dev",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("recipe", no_wrap=True)
    table.add_column("EER", justify="right", no_wrap=True)
    table.add_column("minDCF", justify="right", no_wrap=True)
    table.add_column("VOiCES", justify="right", no_wrap=True)
    table.add_column("what it is")
    for file in files:
        r = load_recipe(file)
        eer = f"{r.published.eer:.2f}" if r.published else ""
        dcf = f"{r.published.mindcf_001:.4f}" if r.published and r.published.mindcf_001 else ""
        voices = f"{r.published.voices_eer:.2f}" if r.published and r.published.voices_eer else ""
        table.add_row(file.stem, eer, dcf, voices, Text(r.description))  # brackets are no markup
    wide = console if console.is_terminal else Console(width=1000)  # a line each in a file or for grep
    wide.print(table)


def _copy_recipe(name: str) -> None:
    """Write a recipe's file, comments and all, into the current folder."""
    from idemvox.recipes import find_recipe

    file = find_recipe(name)
    copied = Path(file.name)
    if copied.exists():
        raise IdemvoxError(f"{copied} is there already: move it away or rename it, then copy again")
    with atomic_write(copied) as out:
        out.write(file.read_text(encoding="utf-8"))
    console.print(f"written: {copied}; edit it, then: idemvox train {copied} data.manifest=...", markup=False)


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
    from idemvox.studies.demo import FULL, SMALL, run_demo

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
