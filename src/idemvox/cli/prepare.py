"""idemvox prepare: folders, tables and manifests; public corpora have their commands from the importers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Quiet, Workers, console, resumable
from idemvox.cli.importers import ImportersGroup
from idemvox.errors import IdemvoxError

__all__ = ["prepare"]

prepare = typer.Typer(cls=ImportersGroup, no_args_is_help=True, help="Check audio and write a manifest.")

MinSeconds = Annotated[float, typer.Option(min=0.1, help="Leave out files shorter than a crop.")]


@prepare.command("folder")
def prepare_folder_command(
    folder: Annotated[
        Path, typer.Argument(help="Any tree of audio: wav, flac, ogg, opus, mp3, m4a, webm, amr and others.")
    ],
    out: Annotated[Path | None, typer.Option(help="Manifest to write; default: FOLDER/manifest.csv")] = None,
    speaker_from: Annotated[
        str | None,
        typer.Option(
            help="Where the speaker is in a path, such as '{speaker}/*/*'. Never needed for training."
        ),
    ] = None,
    recording_from: Annotated[
        str | None, typer.Option(help="Where the recording is in a path, such as '*/{recording}/*'.")
    ] = None,
    min_seconds: MinSeconds = 2.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Check every audio file of a tree and write a manifest; no labels needed.

    Example: idemvox prepare folder calls/ --out calls.csv --recording-from '{recording}/*'
    """
    from idemvox.corpus.prepare import prepare_folder

    with resumable():
        summary = prepare_folder(
            folder,
            out or folder / "manifest.csv",
            min_seconds=min_seconds,
            speaker_from=speaker_from,
            recording_from=recording_from,
            workers=workers,
            progress=not quiet,
        )
    console.print(summary.table())


@prepare.command("table")
def prepare_table_command(
    table: Annotated[Path, typer.Argument(help="A CSV file with at least a column 'path'.")],
    out: Annotated[Path, typer.Option(help="Manifest to write.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the paths; default: the table's.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Only rows with COLUMN=VALUE[,VALUE]; may be given again.")
    ] = None,
    min_seconds: MinSeconds = 2.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Check the audio files that a CSV lists and write a manifest.

    Columns id, speaker and recording are taken over if they are there.

    Example: idemvox prepare table corpus.csv --out train.csv --where split=train
    """
    from idemvox.corpus.prepare import prepare_table

    conditions = {}
    for text in where or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise IdemvoxError(f"--where {text!r} is not COLUMN=VALUE")
        conditions[key] = value
    with resumable():
        summary = prepare_table(
            table,
            out,
            root=root,
            where=conditions or None,
            min_seconds=min_seconds,
            workers=workers,
            progress=not quiet,
        )
    console.print(summary.table())


@prepare.command("join")
def prepare_join_command(
    manifests: Annotated[list[Path], typer.Argument(help="Manifests (.csv), two or more.")],
    out: Annotated[Path, typer.Option(help="Manifest to write, in any folder.")],
    quiet: Quiet = False,
) -> None:
    r"""Join manifests into one; ids, speakers and recordings of two corpora stay apart.

    A corpus has the name of its file, or of its folder if the file is manifest.csv; where two are alike the
    folder above comes in front. It is put before every id, speaker and recording: id10001 of vox1.csv becomes
    vox1/id10001. Paths are rewritten to start from the folder of OUT; no audio is read or copied. A manifest
    given twice, or audio that is in two of them, is refused.

    To train from several corpora no joining is needed: data.manifest=\[vox1.csv,vox2.csv] does the same, and
    takes packs too. A joined manifest is for commands that take one file, such as pack, doctor or embed.

    Example: idemvox prepare join vox1.csv vox2.csv --out vox12.csv
    """
    from idemvox.corpus.join import join_manifests

    console.print(join_manifests(manifests, out, progress=not quiet).table())
