"""idemvox picture: t-SNE of the same utterances by several models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idemvox.cli.common import (
    Device,
    Quiet,
    Root,
    console,
    fetch_device,
    trial_source,
)
from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest
    from idemvox.reports.voices import Voices

__all__ = ["picture"]


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
