"""idemvox train, average, sweep, recipes and demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from idemvox.cli.common import Quiet, console, resumable
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write, read_json

if TYPE_CHECKING:
    from idemvox.recipe import Recipe

__all__ = ["average", "demo", "recipes", "sweep", "train"]

RecipeName = Annotated[str, typer.Argument(help="A name from `idemvox recipes`, or the path of a YAML file.")]


def train(
    recipe: RecipeName,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE, such as training.epochs=10", metavar="[KEY=VALUE]..."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME-OF-RECIPE")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint.")] = False,
    keep: Annotated[
        Literal["last", "best"],
        typer.Option(
            help="best: also keep the model of the best epoch, in OUT/best; needs no labels, but "
            "data.held_out, audio that is not trained on."
        ),
    ] = "last",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs (or parts of a CPU) to train on; they share training.batch.")
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Run two steps of each phase; estimate time and memory.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder with a recipe.

    Only supervised recipes read labels. With start_from=RUN a recipe continues from the weights of
    another run.

    Examples:

      idemvox train simclr data.manifest=train.csv --dry-run

      idemvox train simclr data.manifest=train.csv --out runs/simclr

      idemvox train simclr-ssps start_from=runs/simclr data.manifest=train.csv
    """
    from idemvox.recipe import load_recipe
    from idemvox.training.launch import train_on

    given = list(overrides or [])
    if keep == "best" and not any(key.startswith("training.keep_best=") for key in given):
        given.append("training.keep_best=auto")
    resolved = load_recipe(recipe).override(given)
    if dry_run:
        if devices > 1:
            raise IdemvoxError(
                "a dry run uses one device: leave out --devices, and set training.batch to its share, "
                f"training.batch={max(1, resolved.training.batch // devices)}"
            )
        _dry_run(resolved)
        return
    folder = out or Path("runs") / resolved.name
    how = "stopped; run the same command with --resume to resume"
    with resumable(how):
        trained = train_on(devices, resolved, folder, resume=resume, progress=not quiet)
    if trained is None:  # another process of torchrun prints the results
        return
    table = Table(title=f"{resolved.name}: {trained.epochs} epochs", show_header=False)
    for name, value in trained.numbers.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)
    console.print(f"model: {trained.model}")
    if trained.best is not None:
        console.print(_best(trained.best), highlight=False)


def _best(folder: Path) -> str:
    """Return which epoch a gauge ranked best, and where its model is."""
    values = read_json(folder / "model.json")["provenance"]
    gauge, value = values["kept"]["gauge"].replace("_", " "), values["kept"]["value"]
    return f"best epoch by {gauge} of data.held_out: {values['epochs']} ({value:.4g}); model: {folder}"


def _dry_run(recipe: Recipe) -> None:
    """Print the time and memory that a dry run estimates."""
    from idemvox.training.watch.dry_run import rehearse
    from idemvox.training.watch.forecast import span

    estimate = rehearse(recipe)
    table = Table(title=f"{recipe.name}: two steps of every phase")
    for heading in ("phase", "time each", "number", "total", "memory, GiB"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase in estimate.phases:
        each, memory = f"{phase.each:.3g} s", f"{phase.memory / 2**30:.2f}"
        table.add_row(phase.name, each, f"{phase.units:,}", span(phase.seconds), memory)
    console.print(table)
    console.print(estimate.text, highlight=False)


def average(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    last: Annotated[
        int, typer.Option(min=1, help="Number of epochs to average; at most training.keep are stored.")
    ] = 2,
) -> None:
    """Average the weights of a run's last epochs into a model.

    A run keeps the last two epochs, or as many as training.keep says.

    Example:

      idemvox average runs/simclr --last 2 --out runs/averaged
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
            help="KEY=VALUE for all runs; KEY=VALUE,VALUE,... to try each value", metavar="KEY=VALUE,VALUE..."
        ),
    ],
    trials: Annotated[list[Path], typer.Option(help="VoxCeleb-style lists to score on.")],
    manifest: Annotated[Path, typer.Option(help="Manifest with the utterances of the trials.")],
    out: Annotated[Path | None, typer.Option(help="Folder for the runs; default: runs/sweep-RECIPE")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per combination.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time; on a GPU only 1.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train a recipe with every combination of some settings, and score each.

    Choose settings on held-out speakers of the training corpus, not on the list whose results you report.
    Table 2 of the SSPS paper varies positives.clusters=6000,10000,25000,150000 and
    positives.neighbours=0,1,2.

    Example:

      idemvox sweep small data.manifest=train.csv training.lr=1e-3,3e-4 \\
      --trials held-out.txt --manifest held-out.csv

    Writes sweep.md and sweep.json beside the runs. After Ctrl-C, run the same command again to resume.
    """
    from idemvox.processes import command_line
    from idemvox.recipe import load_recipe
    from idemvox.reports.results import write_results
    from idemvox.studies.jobs import TestSet
    from idemvox.studies.sweep import CHANGE, Sweep, read_grid

    plain, grid = read_grid(overrides)
    if not grid:
        raise IdemvoxError("nothing to sweep: give a key several values, such as positives.neighbours=0,1,2")
    common = load_recipe(recipe).override(plain)
    folder = out or Path("runs") / f"sweep-{common.name}"
    tests = tuple(TestSet(path.stem, path, manifest) for path in trials)
    runs = Sweep(folder, common, grid, tests, tuple(range(common.seed, common.seed + seeds)), jobs)
    with resumable(f"stopped; run the same command again to resume (everything is in {folder})"):
        runs.run(console, progress=not quiet)
    rows = runs.rows()
    table = Table(title=f"{common.name}: {len(runs.points())} combinations, {seeds} of each")
    for heading in ("settings", "trials", "EER %", "minDCF p=0.01", "replaced %", "right speaker %", CHANGE):
        table.add_column(heading, justify="left" if heading in ("settings", "trials", CHANGE) else "right")
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
        table.add_row(row["system"], row["trials"], *shown, row.get(CHANGE, ""))
    console.print(table)
    written = write_results(folder, "sweep", f"Sweep of {common.name}", command_line(), rows)
    console.print(f"written: {', '.join(map(str, written))}", highlight=False)


def recipes(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of recipes; default: the recipes that come with idemvox.")
    ] = None,
    copy: Annotated[
        str | None, typer.Option(metavar="NAME", help="Copy this recipe into the current folder, to edit it.")
    ] = None,
) -> None:
    """List the recipes that come with idemvox, with the published results of each.

    Their names work in any folder.

    Examples:

      idemvox recipes

      idemvox recipes --copy simclr
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
        table.add_row(file.stem, eer, dcf, voices, Text(r.description))  # Text: brackets are not markup
    wide = console if console.is_terminal else Console(width=1000)  # one line per recipe in a file or pipe
    wide.print(table)


def _copy_recipe(name: str) -> None:
    """Copy a recipe's file, with its comments, into the current folder."""
    from idemvox.recipes import find_recipe

    file = find_recipe(name)
    copied = Path(file.name)
    if copied.exists():
        raise IdemvoxError(f"{copied} exists already: move or rename it, then copy again")
    with atomic_write(copied) as out:
        out.write(file.read_text(encoding="utf-8"))
    console.print(f"written: {copied}; edit it, then: idemvox train {copied} data.manifest=...", markup=False)


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for all output; default: runs/demo, with -CORPUS, -full, -from-scratch added."
        ),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(help="A labelled manifest to run the same study on instead of the demo's voices."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Longer training, more simulated recordings.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat the study with this many seeds.")] = 1,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Use built-in synthetic voices even if real ones are available."),
    ] = False,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch", help="Train the SimCLR base too, instead of the one that comes with idemvox."
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run the main study on real voices: continue SimCLR as it is, with SSPS in two ways, and with labels.

    After Ctrl-C, run the same command again to resume.

    Examples:

      idemvox demo

      idemvox demo --corpus labelled.csv --seeds 3
    """
    from idemvox.studies.demo import FULL, SMALL, run_demo

    parts = ["demo", *([corpus.stem] if corpus else [])]
    parts += [name for name, on in (("full", full), ("from-scratch", from_scratch)) if on]
    out = out or Path("runs") / "-".join(parts)
    with resumable(f"stopped; run the same command again to resume (everything is in {out})"):
        run_demo(
            out,
            corpus,
            size=FULL if full else SMALL,
            seeds=seeds,
            synthetic=synthetic,
            from_scratch=from_scratch,
            console=console,
            progress=not quiet,
        )
