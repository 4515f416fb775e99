"""idemvox prepare: one command for each kind of corpus."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Quiet, Workers, console, resumable
from idemvox.errors import IdemvoxError

__all__ = ["prepare"]

prepare = typer.Typer(no_args_is_help=True, help="Check audio and write a manifest.")

MinSeconds = Annotated[float, typer.Option(min=0.1, help="Leave out files shorter than a crop.")]
ShortestSeconds = Annotated[float, typer.Option("--min-seconds", min=0.01, help="Leave out shorter files.")]
CorpusFolder = Annotated[Path, typer.Argument(help="The corpus, unpacked as it is published.")]
CorpusOut = Annotated[
    Path | None, typer.Option("--out", help="Manifest to write; default: FOLDER/manifest.csv")
]


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


def _importer(name: str, call: str, min_seconds: float, text: str) -> None:
    """Add ``idemvox prepare NAME``, which calls ``corpus.importers.MODULE:FUNCTION``."""
    module, _, function = call.partition(":")

    def command(
        folder: CorpusFolder,
        out: CorpusOut = None,
        min_seconds: ShortestSeconds = min_seconds,
        workers: Workers = None,
        quiet: Quiet = False,
    ) -> None:
        run = getattr(import_module(f"idemvox.corpus.importers.{module}"), function)
        out = out or folder / "manifest.csv"
        with resumable():
            summary = run(folder, out, min_seconds=min_seconds, workers=workers, progress=not quiet)
        console.print(summary.table())

    prepare.command(name, help=text)(command)


_importer(
    "voxceleb1",
    "voxceleb:prepare_voxceleb1",
    2.0,
    "Prepare VoxCeleb1: wav/id10001/VIDEO/00001.wav, in vox1_dev_wav/, vox1_test_wav/ or both.\n\n"
    "Ids are those of the official trial lists, so these can be evaluated with --manifest.\n\n"
    "Example: idemvox prepare voxceleb1 voxceleb1/ --out voxceleb1.csv",
)
_importer(
    "voxceleb2",
    "voxceleb:prepare_voxceleb2",
    2.0,
    "Prepare VoxCeleb2: aac/id00012/VIDEO/00001.m4a, or converted files in wav/.\n\n"
    "To train, give the dev folder only.\n\n"
    "Example: idemvox prepare voxceleb2 voxceleb2/dev/ --out voxceleb2.csv",
)
_importer(
    "voices",
    "voices:prepare_voices",
    0.1,
    "Prepare the VOiCES 2019 development data: sid_dev/ and its lists.\n\n"
    "Also writes the trials, in the manifest's ids, to trials/ beside the manifest.\n\n"
    "Example: idemvox prepare voices VOiCES_Box_unzip/ --out voices.csv",
)
_importer(
    "sitw",
    "sitw:prepare_sitw",
    0.1,
    "Prepare Speakers in the Wild: dev/ and eval/ with audio/, lists/ and keys/.\n\n"
    "Also writes the core-core and core-multi trials, in the manifest's ids, to trials/ beside the "
    "manifest.\n\n"
    "Example: idemvox prepare sitw sitw_database.v4/ --out sitw.csv",
)


@prepare.command("musan")
def prepare_musan_command(
    folder: CorpusFolder,
    out: CorpusOut = None,
    piece: Annotated[float, typer.Option(min=0.1, help="Length of a piece, in seconds.")] = 5.0,
    min_seconds: ShortestSeconds = 1.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Prepare MUSAN: noise/, music/ and speech/, each cut into pieces, in a manifest of its own.

    No audio is written: a row says where in its file the piece starts. --out musan.csv gives musan.noise.csv,
    musan.music.csv and musan.speech.csv.

    Example: idemvox prepare musan musan/ --out musan.csv
    """
    from idemvox.corpus.importers.musan import prepare_musan

    out = out or folder / "manifest.csv"
    with resumable():
        summaries = prepare_musan(
            folder, out, piece=piece, min_seconds=min_seconds, workers=workers, progress=not quiet
        )
    for summary in summaries:
        console.print(summary.table())


@prepare.command("rirs")
def prepare_rirs_command(
    folder: CorpusFolder,
    out: CorpusOut = None,
    real: Annotated[
        bool, typer.Option("--real", help="The measured responses too, not only simulated ones.")
    ] = False,
    min_seconds: ShortestSeconds = 0.05,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Prepare the room impulse responses of RIRS_NOISES: simulated_rirs/smallroom/Room001/*.wav.

    Example: idemvox prepare rirs RIRS_NOISES/ --out rirs.csv
    """
    from idemvox.corpus.importers.rirs import prepare_rirs

    out = out or folder / "manifest.csv"
    with resumable():
        summary = prepare_rirs(
            folder, out, real=real, min_seconds=min_seconds, workers=workers, progress=not quiet
        )
    console.print(summary.table())


@prepare.command("kaldi")
def prepare_kaldi_command(
    folder: CorpusFolder,
    out: CorpusOut = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that relative paths start from; default: the current one.")
    ] = None,
    min_seconds: MinSeconds = 2.0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Prepare a Kaldi data folder: wav.scp, and utt2spk and segments if they are there.

    Lines of wav.scp must be files: commands (those that end in |) are refused and never run.

    Example: idemvox prepare kaldi data/train/ --out train.csv
    """
    from idemvox.corpus.importers.kaldi import prepare_kaldi

    out = out or folder / "manifest.csv"
    with resumable():
        summary = prepare_kaldi(
            folder, out, root=root, min_seconds=min_seconds, workers=workers, progress=not quiet
        )
    console.print(summary.table())
