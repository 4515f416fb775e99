"""idemvox export: a model that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from idemvox.cli.common import ManifestFile, Model, Quiet, Root, console, trial_source

if TYPE_CHECKING:
    from idemvox.export.checks import Parity
    from idemvox.export.exporting import Exported

__all__ = ["export"]


def export(
    model: Model,
    onnx: Annotated[bool, typer.Option("--onnx", help="As an ONNX file; there is no other format.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to write; default: beside the model, its name with -onnx."),
    ] = None,
    check: Annotated[
        list[Path] | None,
        typer.Option(
            help="A recording, or a folder of them, to compare the embeddings on; may be given several times."
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to 8 bits: smaller, and other embeddings.")
    ] = False,
    trials: Annotated[
        Path | None, typer.Option(help="Trial list to measure on what exporting costs in EER.")
    ] = None,
    root: Root = None,
    manifest: ManifestFile = None,
    quiet: Quiet = False,
) -> None:
    """Write a model as ONNX, front end included: waveforms in, embeddings out, of any length and number.

    The new folder is a model folder: `verify`, `enrol`, `identify`, `evaluate`, `calibrate` and the Python
    class Verifier take it. They run it with onnxruntime, and need no torch: pip install 'idemvox[onnx]'.

    The embeddings are compared with the original's on the recordings of --check; if a number of a unit vector
    differs by more than 1e-4, nothing is written. Without --check, simulated voices stand in. What was
    measured is in export.json.

    With --int8, embeddings differ: give --trials (and --root or --manifest) to see what that costs in EER,
    calibrate the new model, and enrol the speakers again with it.

    Examples:

      idemvox export runs/ssps --onnx --check recordings/

      idemvox export runs/ssps --int8 --trials trials.txt --manifest test.csv
    """
    from idemvox.extras import needs_torch

    needs_torch("exporting")
    from idemvox.export.exporting import export_model
    from idemvox.model import find_folder
    from idemvox.verification.trials import load_trials

    folder = find_folder(model)
    target = out or folder.with_name(f"{folder.resolve().name}-onnx{'-int8' if int8 else ''}")
    found = export_model(
        folder,
        target,
        precision="int8" if int8 else "fp32",
        check=check or (),
        trials=None if trials is None else load_trials(trials),
        source=None if trials is None else trial_source(root, manifest),
        progress=not quiet,
    )
    for line in _lines(found, int8):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(found: Exported, int8: bool) -> list[str]:
    """Return the summary of an export."""
    lines = [f"ONNX fp32: {_parity(found.parity)}"]
    if found.quantised is not None:
        lines.append(f"ONNX int8: {_parity(found.quantised)}, cosine at least {found.quantised.cosine:.4f}")
    if not found.parity.real:
        lines.append("warning: compared on simulated voices only; give --check with real recordings")
    for cost in found.costs:
        eer = cost.eer
        lines.append(
            f"{cost.system}: EER {100 * eer.b:.2f} %, original {100 * eer.a:.2f} %, difference "
            f"{eer.absolute_text}"
        )
    if int8 and not found.costs:
        lines.append("what 8 bits cost in EER was not measured: give --trials")
    if int8:
        lines.append(f"not calibrated: idemvox calibrate {found.folder} TRIALS")
    return [*lines, f"exported: {found.folder}"]


def _parity(parity: Parity) -> str:
    what = "recordings" if parity.real else "simulated voices"
    return (
        f"largest difference {parity.difference:.1e} on {len(parity.recordings)} {what}, "
        f"{parity.padded:.1e} in padded batches"
    )
