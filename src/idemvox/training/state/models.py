"""The models that a run writes: of its last epoch and, by a label-free gauge, of its best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from idemvox.errors import RecipeError
from idemvox.files import read_json
from idemvox.training.run import Run
from idemvox.training.state.provenance import save_trained
from idemvox.verification.gauges import BEST_GAUGES, HIGHER_IS_BETTER

__all__ = ["keep_best", "save_run"]


def save_run(run: Run, folder: Path, **more: Any) -> None:
    """Write the model of a run's last epoch; ``more`` is added to its provenance."""
    save_trained(
        folder,
        run.framework.embedder,
        run.recipe,
        scoring=run.framework.scoring,
        epochs=run.behind,
        utterances=run.batches.size,
        labels=run.labels,
        classes=run.classes.known if run.classes else (),
        corpora=run.corpora,
        **more,
    )


def keep_best(run: Run, folder: Path) -> None:
    """Write the model of a run's last epoch if ``training.keep_best`` ranks it above all earlier epochs.

    The provenance stores the gauge and its value under ``kept``; a resumed run compares with that.

    Args:
        run: after an epoch, on the process that measures the gauges.
        folder: model folder of the best epoch so far.

    Raises:
        RecipeError: the held-out audio does not have this gauge.
    """
    asked = run.recipe.training.keep_best
    if asked is None or "gauge_alignment" not in run.numbers:  # not finite: the run is about to stop
        return
    name = next(g for g in BEST_GAUGES if f"gauge_{g}" in run.numbers) if asked == "auto" else asked
    value = run.numbers.get(f"gauge_{name}")
    if value is None:
        raise RecipeError(
            f"training.keep_best={name}: {run.recipe.data.held_out} does not name the recordings that its "
            "utterances are from; choose another gauge, or add recordings to the manifest"
        )
    before = _kept(folder, name) if run.done > 1 else None
    if before is None or (value > before if name in HIGHER_IS_BETTER else value < before):
        save_run(run, folder, kept={"gauge": name, "value": value})


def _kept(folder: Path, gauge: str) -> float | None:
    """Return the value of a gauge for the model in a folder; ``None`` if it was not kept for that gauge."""
    file = folder / "model.json"
    kept = read_json(file)["provenance"].get("kept", {}) if file.is_file() else {}
    return float(kept["value"]) if kept.get("gauge") == gauge else None
