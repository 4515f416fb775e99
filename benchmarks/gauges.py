"""Which label-free gauge ranks models as their true error rate does.

    python benchmarks/gauges.py [--runs NAME ...] [KEY=VALUE ...]

Trains a range of systems on the data of benchmarks/first_light.py, some of them bad on purpose. After each
epoch it takes the gauges on `data.held_out` (training readers held out, without labels) and the EER of dev
speakers, who are not in that audio: across and within *simulated* recordings, and across real calls.

Each gauge is then compared with each EER by Spearman's rank correlation, signed so that 1 means that the
gauge puts models in the order of their EER. *epochs*: over the epochs of a run, mean of all runs;
`--keep best` needs this. *systems*: over the last epochs of all runs; choosing a recipe needs this. *all*:
over every epoch of every run. *regret*: by how much the EER of the epoch that the gauge chooses exceeds the
best epoch's, in per cent of the latter, mean of all runs; the last column shows the same of the last epoch.

An interrupted study resumes. Writes docs/results/gauges.{md,json}.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.stats import spearmanr

from common import parser_of, publish
from first_light import banks, build
from idemvox.corpus.manifest import load_manifest
from idemvox.files import read_json, write_json
from idemvox.model import Model
from idemvox.recipe import GaugeName, Recipe
from idemvox.studies.jobs import TestSet
from idemvox.training.fitters.base import Hooks
from idemvox.training.loop import train
from idemvox.training.run import Run
from idemvox.verification.evaluation import score_lists
from idemvox.verification.gauges import HIGHER_IS_BETTER
from idemvox.verification.metrics import eer
from idemvox.verification.trials import Trials, load_trials
from ssps_gain import DINO

COMMON = (
    "encoder.name=ecapa_tdnn",
    "encoder.channels=64",
    "encoder.mfa_channels=192",
    "training.batch=64",
    "training.precision=bf16",
    "training.workers=0",
    "training.epochs=8",
    "training.lr_decay=0.5",
    "training.lr_every=2",
    "training.collapse_steps=null",
    "training.save_minutes=60",
)
CROP = ("framework.seconds=1.5",)
MORE = ("training.epochs=4", "training.lr=8e-3")  # 5e-4, halved every 2 epochs since the base began
SSPS = ("positives.name=ssps", "positives.queue=1000000", "positives.seconds=4", "positives.refresh=true")
RUNS: dict[str, tuple[str, ...]] = {
    "simclr": CROP,
    "simclr, hot": (*CROP, "framework.temperature=0.5"),
    "simclr, fast": (*CROP, "training.lr=3e-2"),
    "simclr, unaugmented": (*CROP, "augment.policy=none"),
    "cel": ("framework.name=cel", *CROP),
    "dino": DINO,
    "simclr, then ssps": (*CROP, *MORE, *SSPS, "positives.clusters=4200", "positives.whiten=0.5"),
    "simclr, then wrong ssps": (*CROP, *MORE, *SSPS, "positives.clusters=20", "positives.neighbours=4"),
    "simclr, then labels": (*CROP, *MORE, "positives.name=supervised"),
}
"""Systems -> recipe keys; those with ``, then`` continue ``simclr``."""
GAUGES = get_args(GaugeName)
SECONDS = 4.0  # of an utterance that are scored, at most


class Scores:
    """Writes gauges and true EERs of each epoch of a run to a file.

    Args:
        file: kept if it exists.
        tests: what is scored.
    """

    def __init__(self, file: Path, tests: Sequence[TestSet]) -> None:
        self.file = file
        self.epochs: dict[str, dict[str, Any]] = read_json(file) if file.is_file() else {}
        self._lists: dict[Path, list[Trials]] = defaultdict(list)
        for test in tests:
            self._lists[test.manifest].append(load_trials(test.trials, test.name))

    def measure(self, run: Run) -> None:
        """Measure a run after an epoch."""
        model = Model(run.framework.embedder, run.framework.scoring, {}, self.file.parent)
        row = {name: run.numbers[f"gauge_{name}"] for name in GAUGES}
        for path, lists in self._lists.items():
            for scored in score_lists(model, lists, load_manifest(path), max_seconds=SECONDS):
                row[f"EER {scored.trials.name}"] = eer(scored.scores, scored.trials.labels).value
        self.epochs[str(run.behind)] = row
        write_json(self.file, self.epochs)


FOUND = """
What was found, with one seed: `recording_pseudo_eer` orders the epochs of a run best on all three lists.
`pseudo_eer` is next best in what a wrong choice costs. So `--keep best` uses the former where recordings are
known, and else the latter. `channel_pseudo_eer` orders different systems best across recordings, so `idemvox
adapt` uses it. But in these runs, whose learning rate falls until the end, no gauge chooses as well as simply
taking the last epoch.
"""


def correlation(gauge: str, rows: Sequence[dict[str, Any]], truth: str) -> float:
    """Return Spearman's rank correlation of a gauge with an EER over rows, 1 if the orders are the same."""
    sign = -1 if gauge in HIGHER_IS_BETTER else 1
    value = spearmanr([sign * row[gauge] for row in rows], [row[truth] for row in rows]).statistic
    return 0.0 if np.isnan(value) else float(value)


def regret(gauge: str, rows: Sequence[dict[str, Any]], truth: str) -> float:
    """Return how far the EER of the row that a gauge chooses is above the best row's, as a share of it."""
    sign = -1 if gauge in HIGHER_IS_BETTER else 1
    chosen = min(rows, key=lambda row: sign * row[gauge])
    return float(chosen[truth] / min(row[truth] for row in rows) - 1)


def table(runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row for each gauge and trial list."""
    found = []
    everything = [row for rows in runs.values() for row in rows]
    for truth in [key for key in everything[0] if key.startswith("EER ")]:
        last = np.mean([rows[-1][truth] / min(row[truth] for row in rows) - 1 for rows in runs.values()])
        for gauge in GAUGES:
            found.append(
                {
                    "system": gauge,
                    "trials": truth.removeprefix("EER "),
                    "epochs": round(np.mean([correlation(gauge, r, truth) for r in runs.values()]), 2),
                    "systems": round(correlation(gauge, [rows[-1] for rows in runs.values()], truth), 2),
                    "all": round(correlation(gauge, everything, truth), 2),
                    "regret %": round(100 * np.mean([regret(gauge, r, truth) for r in runs.values()]), 1),
                    "regret of the last epoch %": round(100 * float(last), 1),
                }
            )
    return found


def recipe_of(name: str, out: Path, learn: Path, held: Path, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of a run."""
    given = [f"name={name}", f"data.manifest={learn}", f"data.held_out={held}", *COMMON, *banks()]
    if ", then " in name:
        given.append(f"start_from={out / name.partition(',')[0]}")
    return Recipe().override([*given, *RUNS[name], *overrides])


def main() -> None:
    """Run it."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gauges"))
    parser.add_argument("--runs", nargs="+", choices=list(RUNS), default=list(RUNS), metavar="NAME")
    parser.add_argument("overrides", nargs="*", help="recipe KEY=VALUE for every run")
    args = parser.parse_args()
    out = args.out.resolve()
    learn, tests = build(out / "data", "mild", choose=False)
    _, held = build(out / "data", "mild", choose=True)
    for name in args.runs:
        folder, hooks = out / name, Hooks(on_epoch=Scores(out / f"{name}.json", tests).measure)
        recipe = recipe_of(name, out, learn, held[0].manifest, args.overrides)
        train(recipe, folder, resume=(folder / "checkpoints").is_dir(), hooks=hooks)
    runs = {}
    for name in RUNS:
        file = out / f"{name}.json"
        if not file.is_file():
            print(f"no results yet without {name}: run again with --runs '{name}'")
            return
        runs[name] = [row for _, row in sorted(read_json(file).items(), key=lambda item: int(item[0]))]
    epochs = {name: [{k: round(v, 4) for k, v in row.items()} for row in rows] for name, rows in runs.items()}
    where = Path(__file__).resolve().parents[1] / "docs" / "results"
    doc, more = __doc__ or "", {"extra": {"runs": epochs}}
    publish(where, "gauges", "Which gauge to trust", doc, table(runs), "\n" + FOUND, **more)


if __name__ == "__main__":
    main()
