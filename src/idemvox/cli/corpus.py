"""idemvox doctor and idemvox pack: check a corpus, and make it fast to read."""

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
            help="Compare the counts with the official ones",  # CorporaCommand adds the names
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
        typer.Option(min=0, help="Shorter files are errors; default: 2, a crop, and 0 for musan and rirs."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 for warnings too.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Check a corpus: decode every file once, count, and list all problems.

    Errors (exit status 1): missing, unreadable, truncated, empty, silent, too short, shorter than listed,
    samples that are NaN or not scaled to [-1, 1], the same audio under two speakers, counts that differ from
    those of --corpus.

    Warnings (exit status 0, or 1 with --strict): clipped, nothing above 4 kHz (8-kHz audio in a file of a
    higher rate), duplicate audio (whatever the file's name, format or header), longer than listed or of
    another rate, an Ogg stream without its end, counts that differ from those of a corpus recognised by its
    names.

    A bad file does not stop it. After Ctrl-C, run the same command again to resume.

    Examples:

      idemvox doctor train.csv

      idemvox doctor vox1.csv --corpus voxceleb1-dev --out problems.csv
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
    manifest: Annotated[Path, typer.Argument(help="Manifest to pack; with --check and no OUT, the pack.")],
    out: Annotated[Path | None, typer.Argument(help="Folder to write.")] = None,
    shard_gib: Annotated[float, typer.Option(help="Largest size of a shard, in GiB.")] = 2.0,
    check: Annotated[bool, typer.Option("--check", help="Check all samples against their hashes.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Decode a corpus once, into a few large files from which crops are read fast; or check such a pack.

    After Ctrl-C, run the same command again to resume. Train with data.manifest=OUT.

    Examples:

      idemvox pack train.csv packed/

      idemvox pack --check packed/
    """
    from idemvox.corpus.packs.pack import pack as run

    if out is None and not check:
        raise IdemvoxError(f"give a folder to pack {manifest} into, or --check to check a pack")
    if out is not None:
        with resumable(f"stopped; run the same command again to resume (everything is in {out})"):
            summary = run(manifest, out, shard_gib=shard_gib, workers=workers, progress=not quiet)
        console.print(summary.table())
    if check:
        _check_pack(out or manifest, workers, quiet)


def _check_pack(folder: Path, workers: int | None, quiet: bool) -> None:
    from idemvox.corpus.packs.check import check

    result = check(folder, workers=workers, progress=not quiet)
    for name in (*result.files, *result.damaged):
        console.print(f"damaged: {name}", markup=False, highlight=False, soft_wrap=True)
    if result.files or result.damaged:
        raise IdemvoxError(
            f"{folder} is damaged in {len(result.damaged):,} of {result.utterances:,} utterances and "
            f"{len(result.files)} other files; copy it again, or delete it and pack again"
        )
    console.print(f"{folder}: all {result.utterances:,} utterances are intact")
