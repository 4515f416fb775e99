"""Rounds of pseudo-labels after SimCLR-SSPS: plain, with a loss gate, with label correction.

    python benchmarks/iterate.py [--corpus dense] [--seeds 0 1] [--rounds 3] [--scale 1]

Corpora, base and SSPS run are those of benchmarks/ssps_gain.py: SimCLR, then SimCLR-SSPS with agglomerated
clusters. Its embeddings are clustered, a classifier is trained on the clusters from the weights of the SSPS
run, and labels the corpus again, three times:

* plain: AAM-softmax.
* lgl: losses up to 1, 3 and 3 count, after half the epochs (Tao et al., 2022).
* dlg-lc: the gate of a mixture after four epochs, label correction after eight (Han et al., 2024).

Beside them: positives by label, and AAM-softmax with the true speakers, both from the same base. The number
of clusters is a share of the utterances, as for SSPS; nothing is chosen on the reported trials. Speakers in
the training set are only compared with the clusters (purity, NMI). Recordings are simulated.

Interrupted, it resumes with the same command. When all seeds are done it writes iterate.{md,json} into
--results.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from common import corpora, parser_of
from idemvox.processes import command_line
from idemvox.pseudo.labelling import LabelOptions
from idemvox.recipe import Recipe
from idemvox.reports.results import write_results
from idemvox.studies.iterate import Rounds
from idemvox.studies.jobs import Job, results_row, run_job
from ssps_gain import BASE, SETTINGS, SIMCLR, Data, build, from_corpora, jobs

EPOCHS = 15  # of a round
GATES = {
    "plain": ((), {}),
    "lgl": (("framework.gate=fixed",), {"framework.threshold": [1, 3, 3, 5, 6]}),
    "dlg-lc": (("framework.gate=mixture", "framework.gate_after=4", "framework.correct_after=8"), {}),
}


def rounds_of(
    way: str,
    name: str,
    data: Data,
    place: Path,
    before: Job,
    common: tuple[str, ...],
    count: int,
    epochs: int,
) -> Rounds:
    """Return the rounds of one way to treat labels, which start from the SSPS run ``before``."""
    gate, each = GATES[way]
    late = min(epochs - 1, epochs // 2 if way == "lgl" else 4)
    values = [
        f"name={way}",
        "framework.name=supervised_aam",
        f"data.manifest={data.train.parent / 'learn.csv'}",
        f"start_from={before.folder}",
        f"training.epochs={epochs}",
        *common,
        *gate,
        *([f"framework.gate_after={late}"] if gate else []),
    ]
    return Rounds(
        place / way,
        Recipe().override(values),
        LabelOptions(clusters=round(SETTINGS[name].groups * data.utterances), whiten=0.7, min_utterances=2),
        count,
        each={key: gates[:count] for key, gates in each.items()},
        tests=data.tests,
    )


def supervised(data: Data, place: Path, before: Job, common: tuple[str, ...], epochs: int) -> Job:
    """Return the run with the true speakers, as long as all rounds together."""
    values = [
        "name=supervised-aam",
        "framework.name=supervised_aam",
        f"data.manifest={data.train}",
        f"start_from={before.folder}",
        f"training.epochs={epochs}",
        *common,
    ]
    return Job(place / "supervised-aam", Recipe().override(values), data.tests)


def study(
    name: str,
    data: Data,
    folder: Path,
    seeds: Sequence[int],
    count: int,
    overrides: tuple[str, ...],
    scale: float,
) -> list[dict[str, Any]]:
    """Run everything that is missing; return a row per system and test, with a value per seed."""
    console = Console()
    epochs = max(2, round(scale * EPOCHS))
    systems: dict[str, list[Job]] = {}
    rounds: dict[str, list[Rounds]] = {}
    for seed in seeds:
        place = folder / name / f"seed-{seed}"
        common = (f"seed={seed}", *BASE, *SIMCLR, *overrides)
        family = {job.folder.name: job for job in jobs(name, data, folder, [seed], overrides, scale)}
        base, ssps = family["simclr-base"], family["simclr-ssps-agglomerative"]
        last = supervised(data, place, base, common, count * epochs)
        for job in (base, family["simclr"], ssps, family["simclr-supervised"], last):
            if not job.done:
                console.print(f"seed {seed}: {job.recipe.name}")
                run_job(job, True)
            if job.tests:
                systems.setdefault(job.recipe.name, []).append(job)
        for way in GATES:
            made = rounds_of(way, name, data, place, ssps, common, count, epochs)
            made.run(console)
            rounds.setdefault(way, []).append(made)
    rows = [results_row(system, test, done) for system, done in systems.items() for test in data.tests]
    for way, made in rounds.items():
        for number in range(1, count + 1):
            done = [its.round(number) for its in made]
            labels = [next(r for r in its.rows() if r["system"] == f"round {number}") for its in made]
            more = {
                key: [row[key] for row in labels] for key in ("purity", "nmi", "kept") if key in labels[0]
            }
            rows += [results_row(f"{way}, round {number}", test, done) | more for test in data.tests]
    return rows


def main() -> None:
    """Build, train, score, write."""
    options = parser_of(__doc__)
    options.add_argument("--out", type=Path, default=Path("runs/ssps-gain"), help="shared with ssps_gain.py")
    options.add_argument("--results", type=Path, default=Path("docs/results"))
    options.add_argument("--corpus", choices=SETTINGS, default="dense")
    options.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument(
        "--scale", type=float, default=1.0, help="of all numbers of epochs; for a quick look"
    )
    options.add_argument("overrides", nargs="*", help="KEY=VALUE for every run")
    given = options.parse_args()
    out = given.out.resolve()
    data = build(out / "data" / given.corpus, given.corpus, *from_corpora(out), os.cpu_count() or 1)
    banks = (f"augment.noise={corpora() / 'noise'}", f"augment.music={corpora() / 'music'}")
    overrides = (*banks, *given.overrides)
    rows = study(given.corpus, data, out, given.seeds, given.rounds, overrides, given.scale)
    if given.scale != 1:
        sys.exit("a quick look: nothing is written")
    title = "Rounds of pseudo-labels"
    write_results(given.results, "iterate", title, command_line(), rows, (__doc__ or "").strip())


if __name__ == "__main__":
    main()
