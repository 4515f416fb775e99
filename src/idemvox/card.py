"""Model cards: the README.md of a model folder, written from the other files in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from idemvox.files import atomic_write, read_json

__all__ = ["CARD_FILE", "write_card"]

CARD_FILE = "README.md"


def write_card(folder: Path) -> None:
    """Write the card of a model folder: data, recipe, licence, numbers and limits; none without a model.

    It is written again whenever a report or a calibration is stored or removed, so it never shows numbers of
    older weights.
    """
    if not (folder / "model.json").is_file():
        return
    description = read_json(folder / "model.json")
    report, calibration = (_optional(folder / f"{name}.json") for name in ("report", "calibration"))
    made = description.get("provenance", {})
    parts = [
        "# Model card",
        "An encoder of voices, made with idemvox: it turns a recording into a vector, and vectors of one "
        "person are alike. Load it with `idemvox verify --model FOLDER` or `idemvox.Verifier.load(FOLDER)`.",
        f"## What it is\n\n{_table(_facts(description))}",
        f"## Data\n\n{_data(made)}",
        f"## Licence\n\n{_licence(made)}",
        f"## Numbers\n\n{_numbers(report, calibration)}",
        f"## Limits\n\n{_limits(made, calibration is not None)}",
    ]
    with atomic_write(folder / CARD_FILE) as file:
        file.write("\n\n".join(parts) + "\n")


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "", [], {})]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def _part(values: Any) -> str:
    """Return a part of a recipe in a line: its name and its options."""
    if not isinstance(values, Mapping):
        return ""
    options = ", ".join(f"{key} {value}" for key, value in values.items() if key != "name")
    return f"{values.get('name')}" + (f" ({options})" if options else "")


def _facts(description: Mapping[str, Any]) -> dict[str, Any]:
    made = description.get("provenance", {})
    return {
        "encoder": _part(description.get("encoder")),
        "compared by": description.get("scoring", "cosine"),
        "recipe": made.get("recipe"),
        "framework": _part(made.get("framework")),
        "positives": _part(made.get("positives")),
        "epochs": made.get("epochs"),
        "seed": made.get("seed"),
        "finished": made.get("finished"),
        "idemvox": made.get("idemvox"),
        "command": f"`{made['command']}`" if made.get("command") else None,
    }


def _data(made: Mapping[str, Any]) -> str:
    """Return what the weights were trained on, and which labels that used."""
    if "imported" in made:
        origin = made["imported"]
        return (
            f"The weights were imported from {origin['from']} (`{origin['file']}`, SHA-256 "
            f"{origin['sha256']}). See that toolkit for what they were trained on."
        )
    lines = []
    if made.get("utterances") is not None:
        lines.append(f"Trained on {made['utterances']:,} utterances.")
    if made.get("corpora"):
        lines.append("By corpus: " + ", ".join(f"{name} {n:,}" for name, n in made["corpora"].items()) + ".")
    used = made.get("known", [])
    lines.append(
        f"Labels used in training: {', '.join(used)}." if used else "No labels were used in training."
    )
    if made.get("start_from"):
        lines.append(f"It continues the model `{made['start_from']}`, whose data and labels count too.")
    return " ".join(lines)


def _licence(made: Mapping[str, Any]) -> str:
    given = made.get("imported", made).get("licence")
    if given:
        return f"Of the weights: {given}."
    return (
        "Not stated. The weights are yours to license, within the terms of the recordings that they were "
        "trained on. idemvox itself is under Apache-2.0."
    )


def _numbers(report: Any, calibration: Any) -> str:
    """Return the stored report in a table, or that there is none."""
    if report is None:
        return "None yet: `idemvox evaluate` stores them here."
    low, high = report.get("eer_low"), report.get("eer_high")
    interval = "" if low is None else f" (95 % interval {100 * low:.2f} to {100 * high:.2f})"
    rows = {
        "trials": f"{report['trials']}: {report['targets']:,} of one person, {report['impostors']:,} of two",
        "EER": f"{100 * report['eer']:.2f} %{interval}",
        "minDCF, p = 0.01": f"{report['mindcf_001']:.4f}",
        "minDCF, p = 0.05": f"{report['mindcf_005']:.4f}",
        "scored by": report.get("scoring"),
        "calibrated": None if calibration is None else "yes, see `calibration.json`",
    }
    return _table(rows)


def _limits(made: Mapping[str, Any], calibrated: bool) -> str:
    limits = [
        "Error rates hold for speech like that of the trials. They differ for other languages, ages, "
        "microphones and noise: measure on your own recordings.",
        "A match is evidence, not proof. Do not use it as the only ground for a decision about a person.",
        "Synthetic and replayed voices are not detected.",
    ]
    if not calibrated:
        limits.insert(0, "It is not calibrated: `idemvox calibrate` sets a threshold before it can decide.")
    if "recordings" in made.get("known", []):
        limits.append("Training knew which utterances come from one recording.")
    return "\n".join(f"* {limit}" for limit in limits)
