"""The command line: parse, call, print."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from idemvox.errors import IdemvoxError

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Learn from unlabelled recordings whether two of them are of the same person.\n\n"
    "From speech to a verdict:\n\n"
    "  idemvox prepare folder recordings/ --out train.csv\n\n"
    "  idemvox train recipes/simclr.yaml data.manifest=train.csv --out runs/simclr\n\n"
    "  idemvox evaluate runs/simclr trials.txt --root recordings/\n\n"
    "  idemvox verify monday.wav tuesday.wav --model runs/simclr\n\n"
    "Or see it all happen on real voices: idemvox demo",
)
prepare = typer.Typer(no_args_is_help=True, help="Check audio and write a manifest.")
app.add_typer(prepare, name="prepare")
console = Console()

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Parallel readers; default: one per core.")]
ShortestSeconds = Annotated[float, typer.Option("--min-seconds", min=0.01, help="Leave out shorter files.")]
CorpusFolder = Annotated[Path, typer.Argument(help="The corpus, unpacked as it is published.")]
CorpusOut = Annotated[
    Path | None, typer.Option("--out", help="Manifest to write; default: FOLDER/manifest.csv")
]
MinSeconds = Annotated[float, typer.Option(min=0.1, help="Leave out files shorter than a crop.")]
Model = Annotated[Path, typer.Argument(help="A run folder, or the model folder in it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: a GPU if there is one.")]
Root = Annotated[Path | None, typer.Option(help="Folder that the paths in the trials start from.")]
ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest with the trials' utterances.")
]


def _fetch_device(name: str | None) -> str:
    import torch

    return name or ("cuda" if torch.cuda.is_available() else "cpu")


@prepare.command("folder")
def prepare_folder_command(
    folder: Annotated[Path, typer.Argument(help="Any tree of wav, flac, ogg, opus, mp3 or m4a files.")],
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


@app.command()
def doctor(
    source: Annotated[Path, typer.Argument(help="A manifest (.csv) or any tree of audio.", metavar="SOURCE")],
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Compare the counts with the official ones: voxceleb1, voxceleb1-dev, voxceleb1-test, "
            "voxceleb2, voxceleb2-dev, voxceleb2-test, musan, musan-noise, musan-music, "
            "musan-speech, rirs (the simulated ones) or voices-dev."
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
    from idemvox.corpus.doctor import examine_corpus

    try:
        diagnosis = examine_corpus(
            source,
            corpus=corpus,
            out=out,
            min_seconds=min_seconds,
            workers=workers,
            progress=not quiet,
        )
    except KeyboardInterrupt as stop:
        console.print(f"\n{str(stop) or 'stopped; run the same command again to go on'}")
        raise typer.Exit(130) from stop
    console.print(diagnosis.table())
    if diagnosis.failed(strict):
        raise typer.Exit(1)


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
    "The m4a files need PyAV: pip install 'idemvox\\[m4a]'. To train, give the dev folder only.\n\n"
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
    for summary in prepare_musan(
        folder, out, piece=piece, min_seconds=min_seconds, workers=workers, progress=not quiet
    ):
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
    summary = prepare_kaldi(
        folder, out, root=root, min_seconds=min_seconds, workers=workers, progress=not quiet
    )
    console.print(summary.table())


@app.command()
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
    from idemvox.corpus.pack import pack as run

    if out is None and not check:
        raise IdemvoxError(f"name a folder to pack {manifest} into, or add --check to check a pack")
    if out is not None:
        try:
            summary = run(manifest, out, shard_gib=shard_gib, workers=workers, progress=not quiet)
        except KeyboardInterrupt:
            console.print(f"\nstopped; the same command goes on where it was (all is in {out})")
            raise
        console.print(summary.table())
    if check:
        _check_pack(out or manifest, workers, quiet)


def _check_pack(folder: Path, workers: int | None, quiet: bool) -> None:
    from idemvox.corpus.pack_check import check

    found = check(folder, workers=workers, progress=not quiet)
    for name in (*found.files, *found.damaged):
        console.print(f"damaged: {name}", markup=False, highlight=False, soft_wrap=True)
    if found.files or found.damaged:
        raise IdemvoxError(
            f"{folder} is damaged in {len(found.damaged):,} of {found.utterances:,} utterances and "
            f"{len(found.files)} other files; copy it again, or delete it and pack again"
        )
    console.print(f"{folder}: all {found.utterances:,} utterances are as they were packed")


@app.command()
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
    try:
        trained = run(resolved, folder, resume=resume, progress=not quiet)
    except KeyboardInterrupt:
        console.print(
            f"\nstopped; go on with the same command and --resume (finished epochs are in {folder})"
        )
        raise
    table = Table(title=f"{resolved.name}: {trained.epochs} epochs", show_header=False)
    for name, value in trained.numbers.items():
        table.add_row(name.replace("_", " "), f"{value:.4g}")
    console.print(table)
    console.print(f"model: {trained.model}")


@app.command()
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


@app.command()
def evaluate(
    model: Model,
    trials: Annotated[
        list[Path], typer.Argument(help="VoxCeleb-style lists: 'label path path', 1 = same speaker.")
    ],
    root: Root = None,
    manifest: ManifestFile = None,
    out: Annotated[Path | None, typer.Option(help="Write the report as JSON here too.")] = None,
    store: Annotated[
        bool, typer.Option(help="Keep the (first) report with the model, as the threshold of `verify`.")
    ] = True,
    device: Device = None,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the encoder's arithmetic.")] = "fp32",
    quiet: Quiet = False,
) -> None:
    """Score trial lists by the cosine of full-length embeddings: EER and minDCF.

    Give --manifest (its ids or paths are looked up; with speakers in it the EER gets a confidence
    interval) or --root (the folder that paths start from).
    """
    from idemvox.files import write_json
    from idemvox.model import load_model
    from idemvox.processes import command_line
    from idemvox.verification.embed import embed_files
    from idemvox.verification.report import evaluate as score
    from idemvox.verification.report import reports_table, store_report, trial_utterances
    from idemvox.verification.trials import load_trials

    source = _source(root, manifest)
    loaded = load_model(model)
    lists = [load_trials(path) for path in trials]
    embeddings = embed_files(
        loaded.encoder,
        trial_utterances(lists, source),
        device=_fetch_device(device),
        precision=precision,
        progress=not quiet,
    )
    reports = [
        score(
            loaded.encoder,
            each,
            source,
            embeddings=embeddings,
            model=loaded.provenance,
            command=command_line(),
            precision=precision,
        )
        for each in lists
    ]
    console.print(reports_table(reports))
    if out is not None:
        write_json(out, [json.loads(report.to_json()) for report in reports])
        console.print(f"report: {out}")
    if store:
        path = store_report(loaded.folder, reports[0])
        console.print(f"stored with the model, as the threshold of `idemvox verify`: {path}")


def _source(root: Path | None, manifest: Path | None) -> Any:
    from idemvox.corpus.manifest import load_manifest

    if root is not None and manifest is not None:
        raise IdemvoxError("give --root or --manifest, not both")
    if manifest is not None:
        return load_manifest(manifest)
    return root or Path()


@app.command()
def embed(
    model: Model,
    audio: Annotated[list[Path], typer.Argument(help="Audio files, or one manifest (.csv).")],
    out: Annotated[Path, typer.Option(help="File to write: ids and matrix (N, D), for numpy.load.")] = Path(
        "embeddings.npz"
    ),
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Embed recordings whole, one vector each."""
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.verification.embed import embed_files, save_embeddings

    encoder = load_model(model).encoder
    source = load_manifest(audio[0]) if len(audio) == 1 and audio[0].suffix == ".csv" else audio
    found = embed_files(encoder, source, device=_fetch_device(device), progress=not quiet)
    save_embeddings(found, out)
    console.print(f"{len(found.ids):,} embeddings of {found.matrix.shape[1]} numbers: {out}")


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="One recording.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
    model: Annotated[Path, typer.Option(help="A run folder, or the model folder in it.")],
    device: Device = None,
) -> None:
    """Say whether two recordings are of the same person.

    The threshold is that of the equal error rate in the report stored with the model by `idemvox evaluate`.
    """
    from idemvox.verifier import Verifier

    console.print(str(Verifier.load(model, device=_fetch_device(device)).verify(first, second)))


@app.command()
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
    try:
        run_demo(
            out,
            corpus,
            size=FULL if full else SMALL,
            seeds=seeds,
            synthetic=synthetic,
            console=console,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        console.print(f"\nstopped; the same command goes on where it was (all is in {out})")
        raise


def _guard(run: Callable[[], None]) -> Callable[[], None]:
    @wraps(run)
    def guarded() -> None:
        try:
            run()
        except IdemvoxError as error:
            Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, markup=True)
            sys.exit(1)
        except KeyboardInterrupt as stop:
            if str(stop):  # how far it came, and how to go on
                Console(stderr=True).print(f"\n{stop}", highlight=False, markup=False)
            sys.exit(130)

    return guarded


@_guard
def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    app(standalone_mode=True)


if __name__ == "__main__":
    main()
