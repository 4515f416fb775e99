"""idemvox prepare: folders, tables and joined manifests; the importers add a command per public corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Quiet, Workers, console, resumable
from idemvox.cli.importers import ImportersGroup
from idemvox.errors import IdemvoxError

__all__ = ["prepare"]

prepare = typer.Typer(
    name="prepare", cls=ImportersGroup, no_args_is_help=True, help="Check audio and write a manifest."
)

MinSeconds = Annotated[float, typer.Option(min=0.1, help="Leave out files shorter than a crop.")]


@prepare.command("folder")
def prepare_folder_command(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Any folder of audio, with subfolders: wav, flac, ogg, opus, mp3, m4a, webm, amr ..."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Manifest to write; default: FOLDER/manifest.csv")] = None,
    speaker_from: Annotated[
        str | None,
        typer.Option(
            help="Where the speaker is in a path, such as '{speaker}/*/*'. Not needed for training."
        ),
    ] = None,
    recording_from: Annotated[
        str | None, typer.Option(help="Where the recording is in a path, such as '*/{recording}/*'.")
    ] = None,
    min_seconds: MinSeconds = 2.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Check every audio file below a folder and write a manifest; no labels needed.

    Examples:

      idemvox prepare folder calls/ --out calls.csv

      idemvox prepare folder calls/ --recording-from '{recording}/*'
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
    table: Annotated[Path, typer.Argument(help="A CSV file with at least the column 'path'.")],
    out: Annotated[Path, typer.Option(help="Manifest to write.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder that paths start from; default: the table's.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="Only rows with COLUMN=VALUE[,VALUE]; may be given several times."),
    ] = None,
    min_seconds: MinSeconds = 2.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Check the audio files that a CSV lists and write a manifest.

    The columns id, speaker and recording are copied if present.

    Example:

      idemvox prepare table corpus.csv --out train.csv --where split=train
    """
    from idemvox.corpus.prepare import prepare_table

    conditions = {}
    for text in where or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise IdemvoxError(f"--where {text!r} is not COLUMN=VALUE; an example: --where split=train")
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
    manifests: Annotated[list[Path], typer.Argument(help="Two or more manifests (.csv).")],
    out: Annotated[Path, typer.Option(help="Manifest to write, in any folder.")],
    quiet: Quiet = False,
) -> None:
    r"""Join manifests into one, keeping ids, speakers and recordings of different corpora apart.

    Every id, speaker and recording is prefixed with the name of its corpus: id10001 of vox1.csv becomes
    vox1/id10001. The name is that of the file, or of its folder if the file is manifest.csv; if two names are
    equal, the folder above is added. Paths are rewritten to start from the folder of OUT; no audio is read or
    copied. It is an error to give a manifest twice, or audio that is in two of them.

    Training on several corpora needs no joining: data.manifest=\[vox1.csv,vox2.csv] does the same, and takes
    packs too. A joined manifest is for commands that take one file, such as pack, doctor or embed.

    Example:

      idemvox prepare join vox1.csv vox2.csv --out vox12.csv
    """
    from idemvox.corpus.join import join_manifests

    console.print(join_manifests(manifests, out, progress=not quiet).table())
