"""A threshold on the recordings it was set on, and on others.

    python benchmarks/calibration.py MODELFOLDER

Calibrates a model on each of two trial lists of the corpora in ``IDEMVOX_CORPORA``, and decides both lists by
the threshold of each, for a false-accept rate of 1 %: `speechocean_within` (50 people reading, each in one
recording of full bandwidth) and `wuw_cross` (15 people, telephone calls against other calls of theirs). Cllr
and actDCF on the list that it was set on are of speakers that the calibration was not fitted to. Warned of:
recordings that `Calibration.unlike` finds unlike those that the threshold was set on.

Writes docs/results/calibration.{md,json}.
"""

from __future__ import annotations

import csv

import numpy as np
from rich.console import Console

from common import corpora, measuring, publish
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.model import load_model
from idemvox.verification.held_out import quality_of
from idemvox.verification.trials import load_trials
from idemvox.verifier.calibrating import calibrate, hear_trials

LISTS = ("speechocean_within", "wuw_cross")
RATE = 0.01


def main() -> None:
    """Run the benchmark."""
    parser = measuring(__doc__, quick="a third of the recordings; writes nothing")
    parser.add_argument("model", help="model folder")
    args = parser.parse_args()
    root, model, console = corpora(), load_model(args.model), Console()
    with (root / "manifest.csv").open(newline="") as file:
        rows = {r["path"]: r for r in csv.DictReader(file) if r["split"] == "dev"}
    manifest = Manifest(
        [
            Utterance(path, path, float(r["seconds"]), speaker=r["speaker"], recording=r["recording"])
            for path, r in rows.items()
        ],
        root,
    )
    heard = {}
    for name in LISTS:
        trials = load_trials(root / "trials" / f"{name}.txt")
        if args.quick:
            few = np.arange(len(trials.ids)) % 3 == 0
            trials = trials.select(few[trials.enrol_index] & few[trials.test_index])
        heard[name] = hear_trials(model, trials, manifest, progress=True)
    table = []
    for name in LISTS:
        found = calibrate(heard[name])
        calibration = found.calibration
        threshold = calibration.threshold(RATE)
        console.print(found.table())
        console.print(f"{calibration}; {threshold}", markup=False, highlight=False)
        for other, asked in heard.items():
            llrs = calibration.llr(asked.scores, asked.seconds)
            labels, quality = asked.trials.labels, quality_of(llrs, asked.trials.labels)
            if other == name:
                quality = found.with_durations if calibration.needs_durations else found.after
            table.append(
                {
                    "system": f"threshold set on {name}",
                    "trials": other,
                    "false accepts %": round(100 * float(np.mean(llrs[~labels] >= threshold.llr)), 2),
                    "false rejections %": round(100 * float(np.mean(llrs[labels] < threshold.llr)), 2),
                    "Cllr": round(quality.cllr, 3),
                    "minCllr": round(quality.min_cllr, 3),
                    "actDCF p=0.01": round(quality.act_dcf_001, 3),
                    "warned of %": round(
                        100 * float(np.mean([bool(calibration.unlike(f)) for f in asked.facts.values()])), 1
                    ),
                }
            )
    console.print_json(data=table)
    if not args.quick:
        publish(args.out, "calibration", "A threshold on other recordings", __doc__ or "", table)


if __name__ == "__main__":
    main()
