"""idemvox calibrate: from scores to likelihood ratios and a threshold."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import Device, ManifestFile, Model, Quiet, Root, console, fetch_device, trial_source
from idemvox.errors import CorpusError

__all__ = ["calibrate"]


def calibrate(
    model: Model,
    trials: Annotated[Path, typer.Argument(help="VoxCeleb-style list: 'label path path', 1 = same speaker.")],
    root: Root = None,
    manifest: ManifestFile = None,
    false_accept_rate: Annotated[
        float,
        typer.Option(
            "--false-accept-rate", "--far", help="Show the threshold for this share of accepted impostors."
        ),
    ] = 0.01,
    durations: Annotated[
        bool | None,
        typer.Option(
            help="Whether the durations of speech count as well; default: if that helps on held-out speakers."
        ),
    ] = None,
    prior: Annotated[
        float, typer.Option(help="Share of same-speaker comparisons where calibration matters most.")
    ] = 0.01,
    store: Annotated[bool, typer.Option(help="Store the calibration with the model.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Turn a model's scores into log-likelihood ratios, and set the threshold for a false-accept rate.

    Fits a logistic regression to the trials and stores it with the model; `idemvox verify` then decides by
    it. A threshold holds for recordings like those it was set on, so use trials of the speech that will be
    verified, with same-speaker trials from different days and devices.

    The table compares costs before and after on speakers that the calibration was not fitted to, by
    cross-validation; the calibration that is stored uses all speakers. At least ten speakers need
    same-speaker trials. Speakers come from --manifest; without them (or with --root) utterances that
    same-speaker trials connect count as one speaker, which is weaker: if the trials of a speaker are not all
    connected, the split is not clean and intervals are too narrow.

    Examples:

      idemvox calibrate runs/ssps calls.txt --manifest calls.csv

      idemvox calibrate runs/ssps calls.txt --root calls/ --far 0.001
    """
    from idemvox.model import load_model
    from idemvox.verification.calibration import save_calibration
    from idemvox.verification.trials import load_trials
    from idemvox.verifier.calibrating import calibrate as calibrated
    from idemvox.verifier.calibrating import hear_trials

    loaded = load_model(model)
    source = trial_source(root, manifest)
    device = fetch_device(device)
    heard = hear_trials(loaded, load_trials(trials), source, device=device, progress=not quiet)
    found = calibrated(heard, prior=prior, durations=durations)
    calibration = found.calibration
    path = save_calibration(loaded.folder, calibration) if store else None
    notes = [] if calibration.conditions is None else calibration.conditions.unfit()
    if found.without_speech:
        some = ", ".join(found.without_speech[:5])
        notes.append(f"{len(found.without_speech)} utterances without speech were left out: {some}")
    try:
        threshold = calibration.threshold(false_accept_rate)
    except CorpusError as error:
        threshold = None
        notes.append(str(error))
    if as_json:
        values = {"threshold": threshold and asdict(threshold), "notes": notes, "stored": path and str(path)}
        typer.echo(json.dumps({**found.to_dict(), **values}, indent=2, ensure_ascii=False))
        return
    console.print(found.table())
    lines = [f"calibrated on {calibration}"]
    if threshold is not None:
        lines.append(f"threshold for a false-accept rate of {100 * false_accept_rate:.2g} %: {threshold}")
    lines += [f"note: {note}" for note in notes]
    if path is not None:
        lines.append(f"stored with the model, for `idemvox verify`: {path}")
    for line in lines:
        console.print(line, markup=False, highlight=False)
