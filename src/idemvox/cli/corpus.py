"""idemvox doctor and idemvox pack: a corpus examined, and made quick to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Quiet, Workers, console, resumable
from idemvox.errors import IdemvoxError

__all__ = ["doctor", "pack"]


def doctor(
    source: Annotated[Path, typer.Argument(help="A manifest (.csv) or any tree of audio.", metavar="SOURCE")],
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Compare the counts with the official ones",  # whose: CorporaCommand says
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="CSV of every problem; default: train.doctor.csv for train.csv, or FOLDER/doctor.csv"
        ),
    ] = None,
    min_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Shorter is an error; default: 2, a crop, and 0 for musan and rirs."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Examine a corpus: decode every file once, count, and list all that is wrong.

    Errors (exit status 1): not there, cannot be read, breaks off, empty, silent, too short, shorter than
    listed, samples that are not numbers or not scaled to [-1, 1], the same audio under two speakers, other
    counts than those of --corpus.

    Warnings (exit status 0, or 1 with --strict): clipped, nothing above 4 kHz (8-kHz audio in a file of a
    higher rate), the same audio again (whatever the file's name, format or header), longer than listed or of
    another rate, an Ogg stream without its end, other counts than those of a corpus recognised by its names.

    No bad file stops it. Ctrl-C and the same command again go on where it was.

    Example: idemvox doctor vox1.csv --corpus voxceleb1-dev --out problems.csv
    """
    from idemvox.corpus.checks.doctor import examine_corpus

    with resumable():
        diagnosis = examine_corpus(
            source,
            corpus=corpus,
            out=out,
            min_seconds=min_seconds,
            workers=workers,
            progress=not quiet,
        )
    console.print(diagnosis.table())
    if diagnosis.failed(strict):
        raise typer.Exit(1)


def pack(
    manifest: Annotated[Path, typer.Argument(help="Manifest to pack; with --check alone, the pack.")],
    out: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    shard_gib: Annotated[float, typer.Option(help="Largest size of a shard, in GiB.")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="Compare every sample with its hash.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Decode a corpus once, into a few large files that crops are read from quickly; or check such a pack.

    Ctrl-C and the same command again go on where it stopped. Train with data.manifest=OUT.

    Examples: idemvox pack train.csv packed/    idemvox pack --check packed/
    """
    from idemvox.corpus.packs.pack import pack as run

    if out is None and not check:
        raise IdemvoxError(f"name a folder to pack {manifest} into, or add --check to check a pack")
    if out is not None:
        with resumable(f"stopped; the same command goes on where it was (all is in {out})"):
            summary = run(manifest, out, shard_gib=shard_gib, workers=workers, progress=not quiet)
        console.print(summary.table())
    if check:
        _check_pack(out or manifest, workers, quiet)


def _check_pack(folder: Path, workers: int | None, quiet: bool) -> None:
    from idemvox.corpus.packs.check import check

    found = check(folder, workers=workers, progress=not quiet)
    for name in (*found.files, *found.damaged):
        console.print(f"damaged: {name}", markup=False, highlight=False, soft_wrap=True)
    if found.files or found.damaged:
        raise IdemvoxError(
            f"{folder} is damaged in {len(found.damaged):,} of {found.utterances:,} utterances and "
            f"{len(found.files)} other files; copy it again, or delete it and pack again"
        )
    console.print(f"{folder}: all {found.utterances:,} utterances are as they were packed")
