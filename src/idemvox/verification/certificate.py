"""Certificates: all that an evaluation measured, in a folder whose every number can be recomputed.

``scores.parquet`` holds the trials with their scores, ``certificate.json`` the metrics, the conventions they
follow, and the hashes of the model, the trial list and the scores. It proves that the numbers belong to the
scores and, to anyone who has the model and the trial list, that they belong to these. It is not a signature:
anyone can invent scores and make a certificate of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from idemvox.errors import IdemvoxError
from idemvox.files import file_hash, read_json, write_json
from idemvox.verification.bootstrap import Measure, percentile_interval, resampled
from idemvox.verification.calibration import load_calibration
from idemvox.verification.counts import SortedTrials
from idemvox.verification.embed import SPEECH, WHOLE
from idemvox.verification.evaluation import Scored
from idemvox.verification.llr import cllr_of, min_cllr_of
from idemvox.verification.metrics import Costs, act_dcf_of, eer_of, min_dcf_of
from idemvox.verification.report import library_versions
from idemvox.verification.score_files import (
    Rows,
    read_scores,
    require_parquet,
    trials_hash,
    write_scores,
)
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import load_trials

__all__ = [
    "CERTIFICATE_FILE",
    "Certificate",
    "Problems",
    "check_certificate",
    "read_certificate",
    "write_certificate",
]

CERTIFICATE_FILE, SCORES_FILE = "certificate.json", "scores.parquet"
FORMAT = 1
COSTS = (Costs(0.01), Costs(0.05))
CONVENTIONS = {
    "threshold": "a trial is accepted if its score is at or above the threshold",
    "ties": "thresholds are the distinct scores, so the order of tied trials changes nothing",
    "EER": "the larger of FNR and FPR at the threshold where |FNR - FPR| is smallest; of two, the higher one",
    "EER interpolated": "where straight lines between the points of FNR and FPR cross",
    "EER hull": "where the convex hull of the curve crosses FNR = FPR",
    "minDCF": "(c_miss p FNR + c_fa (1 - p) FPR) / min(c_miss p, c_fa (1 - p)), least over all thresholds",
    "actDCF": "the same at the Bayes threshold log(c_fa (1 - p) / (c_miss p)) of calibrated scores",
    "Cllr": "bits per trial; minCllr after pool-adjacent-violators on these trials",
    "interval": "95 %: percentiles 2.5 and 97.5 of draws of the speakers with replacement",
}
_CLOSE = 1e-9  # processors round differently in the last bits

Metrics = dict[str, dict[str, float]]
Problems = list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A certificate as read.

    Attributes:
        values: what ``certificate.json`` holds.
        rows: the trials and their scores.
    """

    folder: Path
    values: dict[str, Any]
    rows: Rows


def write_certificate(
    folder: str | Path,
    scored: Scored,
    *,
    costs: Sequence[Costs] = COSTS,
    draws: int = 200,
    seed: int = 0,
    command: str = "",
) -> Path:
    """Write the certificate of an evaluation into a folder, replacing an older one.

    If the model is calibrated by the score alone, actDCF and Cllr of its log-likelihood ratios are included.
    Not for scores of crops, or of cut utterances: the calibration is for whole ones.

    Args:
        folder: created if missing.
        scored: the scores, with their model and trials.
        costs: for minDCF and actDCF.
        draws: bootstrap draws of the intervals; without known speakers there are none.
        seed: makes the intervals repeatable.
        command: the command that made the evaluation.
    """
    require_parquet()
    folder, model, trials = Path(folder), scored.model, scored.trials
    rows = Rows(trials.labels, scored.scores, trials.enrol, trials.test, scored.sides)
    scorer, line = Scorer.of(model), None
    calibration = load_calibration(model.folder, str(scorer))
    whole = tuple(f"{scorer} of {of}" for of in (WHOLE, SPEECH))
    if scored.scoring.startswith(whole) and calibration is not None and not calibration.terms:
        line = {"offset": calibration.offset, "slope": calibration.slope, "trials": calibration.trials}
    bootstrap = {"draws": draws, "seed": seed} if rows.sides is not None else None
    write_scores(folder / SCORES_FILE, scored)
    recipe = model.folder.parent / "recipe.yaml"
    values = {
        "format": FORMAT,
        "trials": {"name": trials.name, "sha256": trials_hash(rows)},
        "model": {
            "sha256": {path.name: file_hash(path) for path in _model_files(model.folder)},
            "description": read_json(model.folder / "model.json"),
            "recipe": recipe.read_text(encoding="utf-8") if recipe.is_file() else None,
        },
        "scoring": scored.scoring,
        "conventions": CONVENTIONS,
        "costs": [list(astuple(cost)) for cost in costs],
        "bootstrap": bootstrap,
        "calibration": line,
        "metrics": _metrics(rows, costs, bootstrap, line),
        "scores": {"file": SCORES_FILE, "sha256": file_hash(folder / SCORES_FILE)},
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {**library_versions(), "pyarrow": version("pyarrow")},
    }
    write_json(folder / CERTIFICATE_FILE, {**values, "seal": _seal(values)})
    return folder / CERTIFICATE_FILE


def check_certificate(
    folder: str | Path, model: str | Path | None = None, trials: str | Path | None = None
) -> Problems:
    """Recompute every number of a certificate; return the differences, empty if there are none.

    Args:
        folder: folder of the certificate.
        model: a model folder (or run folder) that the certificate should be about.
        trials: a trial list that it should be about.

    Raises:
        IdemvoxError: there is no certificate, or it is so damaged that nothing can be computed.
    """
    folder = Path(folder)
    values = _load(folder)
    try:
        return [*_problems(folder, values), *_other_problems(values, model, trials)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        damaged = f"{folder / CERTIFICATE_FILE} is damaged ({error!r}): evaluate the model again"
        raise IdemvoxError(damaged) from error


def read_certificate(folder: str | Path) -> Certificate:
    """Read a certificate, and check it by recomputing every number.

    Raises:
        IdemvoxError: something differs, or there is no certificate.
    """
    folder = Path(folder)
    if problems := check_certificate(folder):
        raise IdemvoxError(
            f"the certificate {folder} is not in order: {problems[0]}; `idemvox check-report {folder}` shows"
            " all that differs"
        )
    values = _load(folder)
    return Certificate(folder, values, read_scores(folder / SCORES_FILE))


def _load(folder: Path) -> dict[str, Any]:
    """Read the JSON file of a certificate."""
    require_parquet()
    path = folder / CERTIFICATE_FILE
    if not path.is_file():
        raise IdemvoxError(
            f"{folder} holds no {CERTIFICATE_FILE}; `idemvox evaluate --certificate {folder}` writes one"
        )
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise IdemvoxError(f"{path} is not a certificate that this idemvox can read: use the newest idemvox")
    return values


def _problems(folder: Path, values: Mapping[str, Any]) -> Problems:
    """Compare the certificate with its own scores."""
    found = []
    if values["seal"] != _seal({key: value for key, value in values.items() if key != "seal"}):
        found.append(f"{CERTIFICATE_FILE} was changed after it was written")
    if values["scores"]["sha256"] != file_hash(folder / SCORES_FILE):
        found.append(f"{SCORES_FILE} was changed after it was written")
    rows = read_scores(folder / SCORES_FILE)
    if values["trials"]["sha256"] != trials_hash(rows):
        found.append(f"the trials in {SCORES_FILE} are not those of {values['trials']['name']!r} (hash)")
    costs = [Costs(*cost) for cost in values["costs"]]
    again = _metrics(rows, costs, values["bootstrap"], values["calibration"])
    stated = dict(_numbers(values["metrics"]))
    for name, number in _numbers(again):
        if name not in stated:
            found.append(f"{name} is missing; the scores give {number:.10g}")
        elif not math.isclose(stated[name], number, rel_tol=_CLOSE, abs_tol=_CLOSE):
            found.append(f"{name} is stated as {stated[name]:.10g}; the scores give {number:.10g}")
    found += [f"{name} is stated but cannot be computed" for name in stated.keys() - dict(_numbers(again))]
    return found


def _other_problems(
    values: Mapping[str, Any], model: str | Path | None, trials: str | Path | None
) -> Problems:
    """Compare the certificate with a model and a trial list."""
    found = []
    if model is not None:
        place = Path(model)
        place = place if (place / "model.json").is_file() else place / "model"
        stated, there = values["model"]["sha256"], {path.name: path for path in _model_files(place)}
        for name in sorted({*stated, *there}):
            if name not in there or name not in stated or stated[name] != file_hash(there[name]):
                found.append(f"the certificate is about another model than {place}: {name} differs")
    if trials is not None:
        pairs = load_trials(trials)
        rows = Rows(pairs.labels, np.empty(0), pairs.enrol, pairs.test, None)
        if values["trials"]["sha256"] != trials_hash(rows):
            name = values["trials"]["name"]
            found.append(f"the certificate is about other trials ({name!r}) than {trials} ({pairs.name!r})")
    return found


def _metrics(
    rows: Rows,
    costs: Sequence[Costs],
    bootstrap: Mapping[str, int] | None,
    line: Mapping[str, Any] | None,
) -> Metrics:
    """Return all metrics by name: their value, with the ends of the interval where there is one."""
    trials = SortedTrials(rows.scores, rows.labels)
    equal = eer_of(trials)
    found: Metrics = {
        "targets": {"value": len(trials.targets)},
        "impostors": {"value": len(trials.impostors)},
        "EER": {"value": equal.value},
        "EER threshold": {"value": equal.threshold},
        "EER interpolated": {"value": eer_of(trials, "interpolate").value},
        "EER hull": {"value": eer_of(trials, "hull").value},
        **{_name("minDCF", cost): {"value": min_dcf_of(trials, cost)} for cost in costs},
        "minCllr": {"value": min_cllr_of(trials)},
    }
    if bootstrap is not None and rows.sides is not None:
        measures: dict[str, Measure] = {"EER": lambda drawn: eer_of(drawn).value}
        for cost in costs:
            measures[_name("minDCF", cost)] = partial(min_dcf_of, costs=cost)
        values = resampled([rows.scores], rows.labels, *rows.sides, list(measures.values()), **bootstrap)
        for number, name in enumerate(measures):
            interval = percentile_interval(values[:, 0, number])
            found[name] |= {"low": interval.low, "high": interval.high}
    if line is not None:
        llrs = line["offset"] + line["slope"] * rows.scores.astype(np.float64)
        calibrated = SortedTrials(llrs, rows.labels)
        found["Cllr"] = {"value": cllr_of(calibrated)}
        found |= {_name("actDCF", cost): {"value": act_dcf_of(calibrated, cost)} for cost in costs}
    return found


def _name(metric: str, costs: Costs) -> str:
    """Return a name such as ``minDCF p=0.01``, with the costs unless both are 1."""
    words = f"{metric} p={costs.p_target:g}"
    if (costs.c_miss, costs.c_fa) != (1, 1):
        words += f" c_miss={costs.c_miss:g} c_fa={costs.c_fa:g}"
    return words


def _numbers(metrics: Metrics) -> Iterator[tuple[str, float]]:
    """Yield the name and value of each number."""
    for name, values in metrics.items():
        for part, value in values.items():
            yield (name if part == "value" else f"{name} ({part})"), value


def _model_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that scores depend on."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.name in ("model.json", "model.onnx", "model.safetensors") or path.name.startswith("backend")
    )


def _seal(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything else in a certificate."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
