"""idemvox trials: lists of pairs to score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from idemvox.cli.common import console
from idemvox.errors import IdemvoxError

__all__ = ["trials"]

trials = typer.Typer(name="trials", no_args_is_help=True, help="Make trial lists from labelled utterances.")


@trials.callback()
def group() -> None:
    """Keep ``make`` a subcommand, though it is the only one."""


@trials.command("make")
def make(
    manifest: Annotated[Path, typer.Argument(help="A manifest with speakers.")],
    out: Annotated[Path, typer.Option(help="The list to write: label, id, id on each line.")],
    kind: Annotated[
        Literal["across", "within", "any"],
        typer.Option(help="Same-speaker pairs across recordings, within one, or both."),
    ] = "across",
    targets: Annotated[int, typer.Option(min=1, help="Same-speaker pairs.")] = 5_000,
    impostors: Annotated[int, typer.Option(min=1, help="Different-speaker pairs.")] = 20_000,
    same_gender: Annotated[
        bool,
        typer.Option("--same-gender", help="Different speakers only of the same gender (column gender)."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Draw a trial list, evenly over speakers, to choose settings on without touching the test list.

    Hold out some speakers of your corpus, choose on their list, and report on another. The same seed and
    utterances give the same list. Different-speaker pairs do not depend on the kind, so lists of two kinds
    differ only in their same-speaker pairs.

    Examples:

      idemvox trials make held-out.csv --out held-out.txt

      idemvox trials make held-out.csv --out hard.txt --same-gender

      idemvox evaluate runs/ssps held-out.txt --manifest held-out.csv
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.verification.drawing import make_trials
    from idemvox.verification.trials import save_trials

    if out.exists() and not force:
        raise IdemvoxError(f"{out} exists already: choose another --out, or replace it with --force")
    found = make_trials(
        load_manifest(manifest),
        kind,
        targets=targets,
        impostors=impostors,
        same_gender=same_gender,
        seed=seed,
        name=out.stem,
    )
    save_trials(found, out)
    same = int(found.labels.sum())
    console.print(
        f"{out}: {same:,} same-speaker and {len(found) - same:,} different-speaker trials of "
        f"{len(found.ids):,} utterances",
        markup=False,
        highlight=False,
    )
