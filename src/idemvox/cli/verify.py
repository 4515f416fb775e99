"""idemvox evaluate, embed and picture: commands that use a trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from idemvox.cli.common import Device, ManifestFile, Model, Quiet, Root, console, fetch_device, trial_source
from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest
    from idemvox.reports.voices import Voices

__all__ = ["embed", "evaluate", "picture"]


def evaluate(
    model: Model,
    trials: Annotated[
        list[Path], typer.Argument(help="VoxCeleb-style lists: 'label path path', 1 = same speaker.")
    ],
    root: Root = None,
    manifest: ManifestFile = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another model to compare with on the same trials; may be given several times."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(help="Folder to write scores, hashes and metrics to, for `idemvox check-report`."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the reports to this JSON file.")] = None,
    store: Annotated[
        bool, typer.Option(help="Store the (first) report with the model; `verify` uses its threshold.")
    ] = True,
    crops: Annotated[
        int, typer.Option(min=0, help="Score the mean of all pairs of so many crops; 0: whole utterances.")
    ] = 0,
    crop_seconds: Annotated[float, typer.Option(min=0.1, help="Length of a crop.")] = 4.0,
    device: Device = None,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="Precision of the encoder's arithmetic.")
    ] = "fp32",
    quiet: Quiet = False,
) -> None:
    """Report EER and minDCF on trial lists, from embeddings of whole utterances and the model's scoring.

    Give --manifest (trials may name its ids or paths; if it has speakers, the EER gets a confidence interval)
    or --root (the folder that paths start from).

    With --against, a table shows the difference to each other model, and its interval from the same
    draws of speakers. Two models can differ clearly though their own intervals overlap.

    Examples:

      idemvox evaluate runs/simclr veri_test2.txt --root voxceleb1/wav

      idemvox evaluate runs/ssps trials.txt --root calls/ --against runs/simclr

      idemvox evaluate runs/ssps trials.txt --root calls/ --certificate checked
    """
    from idemvox.files import write_json
    from idemvox.model import load_model
    from idemvox.processes import command_line
    from idemvox.verification.certificate import write_certificate
    from idemvox.verification.comparison import compare, comparison_table
    from idemvox.verification.embed import Crops
    from idemvox.verification.evaluation import score_lists
    from idemvox.verification.report import reports_table, store_report
    from idemvox.verification.score_files import require_parquet
    from idemvox.verification.trials import load_trials

    if certificate is not None:
        require_parquet()
    loaded, *others = [load_model(folder) for folder in (model, *(against or ()))]
    lists, source = [load_trials(path) for path in trials], trial_source(root, manifest)
    how = {"device": fetch_device(device), "precision": precision, "progress": not quiet}
    if crops:
        how["crops"] = Crops(crops, crop_seconds)
    found = score_lists(loaded, lists, source, **how)
    reports = [scored.report(command=command_line()) for scored in found]
    console.print(reports_table(reports))
    for name, other in zip(against or (), others, strict=True):
        for a, b in zip(score_lists(other, lists, source, **how), found, strict=True):
            comparison = compare(a.scores, b.scores, b.trials.labels, *(b.sides or ()))
            console.print(comparison_table(comparison, b.trials.name, str(name)))
    if certificate is not None:
        for scored in found:
            folder = certificate if len(found) == 1 else certificate / scored.trials.name.replace("/", "-")
            written = write_certificate(folder, scored, command=command_line())
            console.print(f"certificate: {written.parent}; check it with `idemvox check-report`")
    if out is not None:
        write_json(out, [json.loads(report.to_json()) for report in reports])
        console.print(f"report: {out}")
    if store and crops:
        console.print("not stored with the model: `idemvox verify` compares whole recordings")
    elif store:
        path = store_report(loaded.folder, reports[0])
        console.print(f"stored with the model, for the threshold of `idemvox verify`: {path}")


def embed(
    model: Model,
    audio: Annotated[list[Path], typer.Argument(help="Audio files, or one manifest (.csv).")],
    out: Annotated[
        Path, typer.Option(help="File to write: ids and matrix (N, D); read it with numpy.load.")
    ] = Path("embeddings.npz"),
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Embed whole recordings, one vector each.

    Examples:

      idemvox embed runs/ssps monday.wav tuesday.wav --out two.npz

      idemvox embed runs/ssps train.csv
    """
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.verification.embed import embed_files, save_embeddings
    from idemvox.verification.scoring import Scorer

    loaded = load_model(model)
    source = load_manifest(audio[0]) if len(audio) == 1 and audio[0].suffix == ".csv" else audio
    embeddings = embed_files(loaded.encoder, source, device=fetch_device(device), progress=not quiet)
    save_embeddings(embeddings, out)
    dim, scorer = embeddings.matrix.shape[1], Scorer.of(loaded)
    console.print(f"{len(embeddings.ids):,} embeddings of {dim} numbers, to compare by {scorer}: {out}")


def picture(
    models: Annotated[
        list[Path],
        typer.Argument(help="Run folders, or the model folders in them; one panel each.", metavar="MODEL..."),
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="Manifest with speakers and recordings, to choose utterances from.")
    ] = None,
    trials: Annotated[
        Path | None,
        typer.Option(help="Or a trial list, whose target trials show which utterances share a speaker."),
    ] = None,
    root: Root = None,
    speakers: Annotated[
        int, typer.Option(min=2, max=20, help="Number of speakers; those with the most utterances.")
    ] = 10,
    utterances: Annotated[int, typer.Option(min=1, help="Most utterances per speaker.")] = 50,
    out: Annotated[Path, typer.Option(help="PNG file to write.")] = Path("picture.png"),
    seed: Annotated[int, typer.Option(help="Seed for choosing utterances and for t-SNE.")] = 0,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Draw a t-SNE picture of the same utterances, one panel per model.

    Colours are speakers, markers recordings. A good model groups all recordings of a speaker; a model that
    encodes the channel instead makes an island of each recording (Figure 2 of the SSPS paper, before and
    after). Distances between islands mean nothing.

    With --trials and --root, utterances connected by target trials belong to one speaker, and the folder of a
    file is its recording, as in VoxCeleb (speaker/recording/file.wav). With --trials and --manifest, trials
    name ids or paths of the manifest, and its speakers are used if it has them.

    Examples:

      idemvox picture runs/simclr runs/ssps --manifest test.csv

      idemvox picture runs/simclr runs/ssps --trials veri_test.txt --root vox1/wav
    """
    from idemvox.model import load_model
    from idemvox.reports.picture import require_plots, tsne_picture
    from idemvox.verification.embed import embed_files

    require_plots()
    loaded = [load_model(model) for model in models]
    chosen, voices = _choose(manifest, trials, root, speakers, utterances, seed)
    who, where = zip(*(voices[utterance.id] for utterance in chosen), strict=True)
    folders = [m.folder.resolve() for m in loaded]
    titles = [f.parent.name if f.name == "model" else f.name for f in folders]
    if len(set(titles)) < len(titles):
        titles = [str(model) for model in models]
    panels = []
    for title, model in zip(titles, loaded, strict=True):
        embeddings = embed_files(model.encoder, chosen, device=fetch_device(device), progress=not quiet)
        panels.append((title, embeddings.matrix, who, where))
    tsne_picture(panels, out, seed=seed)
    console.print(f"{len(chosen):,} utterances of {len(set(who))} speakers: {out}")


def _choose(
    manifest: Path | None, trials: Path | None, root: Path | None, speakers: int, utterances: int, seed: int
) -> tuple[Manifest, Voices]:
    """Return the utterances to draw, and their speakers and recordings."""
    from idemvox.corpus.manifest import load_manifest
    from idemvox.reports.voices import choose_voices, voices_in_manifest, voices_in_trials
    from idemvox.verification.evaluation import find_utterances, trial_utterances
    from idemvox.verification.trials import load_trials

    if trials is not None:
        pairs, source = load_trials(trials), trial_source(root, manifest)
        named = voices_in_manifest(trial_utterances(pairs, source)) if manifest is not None else {}
        voices = named or voices_in_trials(pairs)
        chosen = choose_voices(voices, speakers, utterances, seed)
        return find_utterances(chosen, source, pairs.name), voices
    if manifest is None or root is not None:
        raise IdemvoxError("give --manifest, or --trials with --root (the folder that its paths start from)")
    listed = load_manifest(manifest)
    voices = voices_in_manifest(listed)
    if not voices:
        raise IdemvoxError(
            f"{manifest} names no speaker: fill in its column speaker (`idemvox prepare folder` has "
            "--speaker-from), or also give --trials, whose targets show which utterances share one"
        )
    names = set(choose_voices(voices, speakers, utterances, seed))
    return listed.select(lambda utterance: utterance.id in names), voices
