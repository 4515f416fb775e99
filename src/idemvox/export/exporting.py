"""Export a model folder: its encoder as ONNX, all that goes with it, and what was measured."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from idemvox.card import write_card
from idemvox.corpus.manifest import Manifest
from idemvox.errors import ModelError
from idemvox.export.checks import Parity, find_samples, measure_parity, simulated_samples
from idemvox.export.graph import quantise, require_onnx, write_graph
from idemvox.files import atomic_write, file_hash, read_json, write_json
from idemvox.model import Model, fingerprint, load_model
from idemvox.onnx_encoder import ONNX_FILE, OnnxEncoder
from idemvox.processes import command_line
from idemvox.verification.backend_file import load_backend, save_backend
from idemvox.verification.calibration import load_calibration, save_calibration
from idemvox.verification.comparison import Difference, compare
from idemvox.verification.evaluation import score_lists
from idemvox.verification.report import library_versions, load_report, store_report
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import Trials

__all__ = ["EXPORT_FILE", "TOLERANCE", "Cost", "Exported", "Precision", "export_model"]

Precision = Literal["fp32", "int8"]

TOLERANCE = 1e-4
"""Largest difference between numbers of the original's unit vectors and the exported model's."""

EXPORT_FILE = "export.json"
"""What was measured at export, beside the model."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What exporting costs on a trial list.

    Attributes:
        system: the exported model, such as ``ONNX int8``.
        eer: its EER and the original's, and their difference, from the same trials; fractions.
    """

    system: str
    eer: Difference


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported model.

    Attributes:
        folder: the new model folder.
        parity: of the float32 graph.
        quantised: of the quantised graph; ``None`` without one.
        costs: on the trial list; empty without one.
        calibrated: whether it has the original's calibration.
    """

    folder: Path
    parity: Parity
    quantised: Parity | None
    costs: tuple[Cost, ...]
    calibrated: bool


def export_model(
    model: str | Path,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    check: Sequence[Path] = (),
    trials: Trials | None = None,
    source: Manifest | Path | None = None,
    progress: bool = False,
) -> Exported:
    """Write an exported model folder: it is loaded like any other, and runs without torch.

    The folder holds ``model.onnx``, the original's back end, scoring and provenance, and ``export.json``:
    how far the embeddings are from the original's, and what that costs. In float32 its embeddings are the
    original's, so its calibration and its report hold as well, and so do stores of speakers. In 8 bits they
    are not: such a model needs its own calibration, and its speakers are enrolled again.

    Args:
        model: a trained model folder, or a run.
        out: a new folder.
        precision: ``int8`` quantises the weights, and the activations at run time.
        check: recordings, or folders of them, to compare the embeddings on; without, simulated voices.
        trials: a list to compare the EERs on.
        source: of the trials' recordings, as for
            :func:`~idemvox.verification.evaluation.trial_utterances`.
        progress: show progress bars.

    Raises:
        ModelError: the model cannot be exported, the float32 graph gives other embeddings, or ``out`` holds a
            model.
    """
    require_onnx()
    out = Path(out)
    if (out / "model.json").exists():
        raise ModelError(f"{out} holds a model: choose another folder with --out")
    original = load_model(model)
    samples = find_samples(check) if check else simulated_samples()
    with tempfile.TemporaryDirectory(prefix="idemvox-export-") as temporary:
        graph = Path(temporary) / ONNX_FILE
        write_graph(original.network, graph)
        systems = {"ONNX fp32": OnnxEncoder(graph)}
        how: dict[str, Any] = {"real": bool(check), "progress": progress}
        parity = measure_parity(original.encoder, systems["ONNX fp32"], samples, **how)
        if not parity.worst <= TOLERANCE:
            raise ModelError(
                f"not exported: the ONNX graph gives other embeddings than {original.folder}; the largest "
                f"difference is {parity.worst:.1e}, above {TOLERANCE:g}. Please report this"
            )
        quantised = None
        if precision == "int8":
            quantise(graph, small := graph.with_name("int8.onnx"))
            systems["ONNX int8"], graph = OnnxEncoder(small), small
            quantised = measure_parity(original.encoder, systems["ONNX int8"], samples, **how)
        costs = () if trials is None else _costs(original, systems, trials, source or Path(), progress)
        calibrated = _write(original, out, graph, precision)
    exported = Exported(out, parity, quantised, costs, calibrated)
    write_json(out / EXPORT_FILE, _facts(exported, precision, trials))
    return exported


def _costs(
    original: Model,
    systems: dict[str, OnnxEncoder],
    trials: Trials,
    source: Manifest | Path,
    progress: bool,
) -> tuple[Cost, ...]:
    """Score the trials by the original and by each exported encoder, and compare EERs."""
    how: dict[str, Any] = {"device": "cpu", "progress": progress}
    [base] = score_lists(original, [trials], source, **how)
    costs = []
    for name, encoder in systems.items():
        [scored] = score_lists(replace(original, encoder=encoder), [trials], source, **how)
        found = compare(base.scores, scored.scores, trials.labels, *(base.sides or ()))
        costs.append(Cost(name, found.differences[0]))
    return tuple(costs)


def _write(original: Model, out: Path, graph: Path, precision: Precision) -> bool:
    """Write the folder, all but ``export.json``; return whether it is calibrated."""
    backend = load_backend(original.folder)
    calibration = load_calibration(original.folder, str(Scorer.of(original)))
    report = load_report(original.folder)
    with graph.open("rb") as content, atomic_write(out / ONNX_FILE, "wb") as file:
        shutil.copyfileobj(content, file)
    whole, identity = file_hash(graph), fingerprint(original.folder)
    if precision != "fp32":
        identity = hashlib.sha256(f"{precision} {identity} {whole}".encode()).hexdigest()
    exported = {"precision": precision, "sha256": whole, "fingerprint": identity}
    description = read_json(original.folder / "model.json", ModelError)
    write_json(out / "model.json", {**description, "exported": exported})
    if backend is not None:
        save_backend(out, backend)
    if precision == "fp32" and report is not None:
        store_report(out, report)
    calibrated = precision == "fp32" and calibration is not None
    if calibration is not None and calibrated:
        save_calibration(out, calibration)
    write_card(out)
    return calibrated


def _facts(exported: Exported, precision: Precision, trials: Trials | None) -> dict[str, Any]:
    """Return what goes into ``export.json``."""
    costs = [{"system": cost.system, **asdict(cost.eer)} for cost in exported.costs]
    return {
        "precision": precision,
        "tolerance": TOLERANCE,
        "parity": asdict(exported.parity),
        "parity int8": None if exported.quantised is None else asdict(exported.quantised),
        "trials": None if trials is None else trials.name,
        "eer": costs or "not measured",
        "versions": library_versions(),
        "command": command_line(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
