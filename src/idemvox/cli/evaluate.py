"""idemvox evaluate: error rates of a model on trial lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from idemvox.cli.common import (
    Cache,
    Device,
    Devices,
    ManifestFile,
    Model,
    Precision,
    Quiet,
    Root,
    console,
    fetch_device,
    in_group,
    resumable,
    trial_source,
)
from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.verification.evaluation import Scored

__all__ = ["evaluate"]


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
        int,
        typer.Option(
            min=0,
            help="Crops per utterance; a score is the mean of all pairs. 0: whole utterances.",
        ),
    ] = 0,
    crop_seconds: Annotated[float, typer.Option(min=0.1, help="Length of a crop.")] = 4.0,
    speech_only: Annotated[
        bool,
        typer.Option(
            "--speech-only",
            help="Score the speech alone, as `verify` and `calibrate` do; the report says so.",
        ),
    ] = False,
    device: Device = None,
    precision: Precision = "fp32",
    cache: Cache = None,
    devices: Devices = 1,
    quiet: Quiet = False,
) -> None:
    """Report EER and minDCF on trial lists, from embeddings of whole utterances and the model's scoring.

    Give --manifest (trials may name its ids or paths; if it has speakers, the EER gets a confidence interval)
    or --root (the folder that paths start from).

    With --against, a table shows the difference to each other model, and its interval from the same
    draws of speakers. Two models can differ clearly though their own intervals overlap.

    The field reports whole utterances, silence and all. With --speech-only the scores are those that
    `idemvox verify` gives; trials with a recording that has no speech are left out, and no cache is used.

    With --cache, embeddings are kept as they are made: the same command resumes after it was stopped, and
    another list of the same audio costs nothing. They are found by the model and the bytes of the audio.
    With --devices, or under torchrun, several processes embed, also on several machines.

    Examples:

      idemvox evaluate runs/simclr veri_test2.txt --root voxceleb1/wav

      idemvox evaluate runs/ssps trials.txt --root calls/ --against runs/simclr

      idemvox evaluate runs/ssps trials.txt --root calls/ --certificate checked

      idemvox evaluate runs/ssps vox1-H.txt --root wav --cache cache --devices 8
    """
    from idemvox.files import write_json
    from idemvox.processes import command_line
    from idemvox.verification.certificate import write_certificate
    from idemvox.verification.comparison import compare, comparison_table
    from idemvox.verification.embed import Crops
    from idemvox.verification.report import reports_table, store_report
    from idemvox.verification.score_files import require_parquet

    if certificate is not None:
        require_parquet()
    device, models = fetch_device(device), [model, *(against or ())]
    how = {"device": device, "precision": precision, "progress": not quiet}
    if crops:
        how["crops"] = Crops(crops, crop_seconds)
    work = partial(_score, models, trials, root, manifest, cache, how)
    if speech_only:
        if crops or precision != "fp32" or devices > 1:
            raise IdemvoxError("--speech-only is without --crops, --precision and --devices: leave them out")
        work = partial(_score_speech, models, trials, root, manifest, device, not quiet)
    with resumable() if cache else nullcontext():
        scored_by_model = in_group(devices, device, work)
    if scored_by_model is None:  # another process of torchrun prints the results
        return
    found, *others = scored_by_model
    reports = [scored.report(command=command_line()) for scored in found]
    console.print(reports_table(reports))
    for name, other in zip(against or (), others, strict=True):
        for a, b in zip(other, found, strict=True):
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
        path = store_report(found[0].model.folder, reports[0])
        console.print(f"stored with the model, for the threshold of `idemvox verify`: {path}")


def _score(
    models: Sequence[Path],
    trials: Sequence[Path],
    root: Path | None,
    manifest: Path | None,
    cache: Path | None,
    how: Mapping[str, Any],
) -> list[list[Scored]]:
    """Return each model's scores on each list."""
    from idemvox.model import load_model
    from idemvox.verification.embed import EmbeddingCache
    from idemvox.verification.evaluation import score_lists
    from idemvox.verification.trials import load_trials

    lists, source = [load_trials(path) for path in trials], trial_source(root, manifest)
    found = []
    for loaded in [load_model(folder) for folder in models]:
        kept = None if cache is None else EmbeddingCache.of(loaded, cache)
        found.append(score_lists(loaded, lists, source, cache=kept, **how))
        if (move := getattr(loaded.encoder, "cpu", None)) is not None:
            move()  # the scores may go to another process
    return found


def _score_speech(
    models: Sequence[Path],
    trials: Sequence[Path],
    root: Path | None,
    manifest: Path | None,
    device: str,
    progress: bool,
) -> list[list[Scored]]:
    """Return each model's scores on each list, of the speech alone."""
    from idemvox.model import load_model
    from idemvox.verification.embed import SPEECH
    from idemvox.verification.evaluation import scored_trials
    from idemvox.verification.trials import load_trials
    from idemvox.verifier.calibrating import hear_trials

    lists, source = [load_trials(path) for path in trials], trial_source(root, manifest)
    found: list[list[Scored]] = []
    for loaded in [load_model(folder) for folder in models]:
        heard = [hear_trials(loaded, pairs, source, device=device, progress=progress) for pairs in lists]
        found.append([scored_trials(loaded, h.scores, h.trials, h.utterances, SPEECH) for h in heard])
        for silent in [] if len(found) > 1 else [h.without_speech for h in heard if h.without_speech]:
            some = ", ".join(silent[:5])
            console.print(f"{len(silent)} utterances without speech were left out: {some}", markup=False)
    return found
