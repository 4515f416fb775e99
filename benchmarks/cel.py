"""The CEL paper's systems beside each other: the ladder of Table 1, two ablations, the grid of Table 3.

    python benchmarks/cel.py [--part all] [--systems NAME ...] [--seeds 3] [--grid-seeds 3] [--epochs 4]

Everything learns from the same utterances as SimCLR in first_light.py (mild channels) and is scored on the
same trials, each system by its recipe, made small for two cores: ECAPA-TDNN of 64 channels (half
of SimCLR's there), crops of 1.5 s, batches of 32.  The ablations (batch size, lambda) are scored on training
speakers held out and not on those of the other rows; ``--choose`` does so with everything, and writes no
results.  The grid goes on from the ladder's CEL of the same seed.

Writes docs/results/cel.{md,json} with the rows of what has been run with all seeds; ``--part none`` does no
more than that.  It can be interrupted and run again, for other parts too; it goes on where it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console

from common import parser_of
from first_light import BASE, banks, build
from idemvox.recipe import Recipe, load_recipe
from idemvox.reports.results import write_results
from idemvox.studies.demo import results_table
from idemvox.studies.jobs import Job, TestSet, claim, results_row, run_jobs
from idemvox.studies.sweep import Sweep

EPOCHS = 4  # of the ladder; 1.2 core-minutes each, 1.8 of AAT
GRID_EPOCHS = 2
ABLATION_EPOCHS = 3
GRID_SECONDS = 2  # 19 of 20 utterances are longer
JOBS = 2
TIE = 0.1  # % EER
ENCODER = ("encoder.channels=64", "encoder.mfa_channels=192")
TOP = Path(__file__).resolve().parents[1]
LADDER = {  # system -> recipe
    "cel-a-prot": "cel-a-prot",
    "cel-a-cont": "cel-a-cont",
    "aat-a-prot": "aat-a-prot",
    "aat-prot": "aat-prot",
    "a-prot": "a-prot",
    "prot": "prot",
    "gcl": "gcl",
    "i-vector": "ivector",
    "a-prot-noaug": "a-prot-noaug",
    "prot-noaug": "prot-noaug",
    "untrained": "cel-a-prot",
}
STARTS = {"random": None, "cel": "cel-a-prot", "cont": "cel-a-cont"}
LOSSES = ("a-prot", "a-cont", "ge2e", "cosface", "arcface", "adacos")
GRID = {f"finetune-{start}-{loss}": (STARTS[start], loss) for start in STARTS for loss in LOSSES}
ABLATIONS = {"batch": {"training.batch": [16, 32, 64]}, "lambda": {"framework.uniformity": [0.5, 2.0]}}


def recipe(name: str, learn: Path, seed: int, *overrides: str) -> Recipe:
    """Return a recipe of idemvox for these utterances."""
    common = (f"data.manifest={learn}", f"seed={seed}", "training.workers=0")
    return load_recipe(name).override([*common, *overrides])


def small(epochs: int) -> tuple[str, ...]:
    """Return what makes a recipe small; the learning rate falls to 0.4 of itself half-way."""
    return *BASE, *ENCODER, *banks(), f"training.epochs={epochs}", f"training.lr_every={(epochs + 1) // 2}"


@dataclass(frozen=True)
class Systems:
    """The ladder's and the grid's runs, in a folder: ``SYSTEM/seed-S`` in it holds each."""

    folder: Path
    learn: Path
    tests: tuple[TestSet, ...]
    epochs: int

    def job(self, system: str, seed: int) -> Job:
        """Return a run."""
        if system in GRID:
            start, loss = GRID[system]
            more = [*small(GRID_EPOCHS), f"framework.seconds={GRID_SECONDS}"]
            more += [f"start_from={self.job(start, seed).folder}"] if start else []
            made = recipe(f"finetune-{loss}", self.learn, seed, *more)
        elif system == "i-vector":
            made = recipe(LADDER[system], self.learn, seed)
        else:
            made = recipe(LADDER[system], self.learn, seed, *small(self.epochs))
        named = made.override([f"name={system}"])
        return Job(self.folder / system / f"seed-{seed}", named, self.tests, system == "untrained", 1)

    def jobs(self, systems: Iterable[str], seeds: int) -> list[Job]:
        """Return the runs of some systems, and before them those that they start from."""
        wanted = list(systems)
        starts = [start for system in wanted if (start := GRID.get(system, (None,))[0])]
        return [self.job(s, seed) for s in dict.fromkeys([*starts, *wanted]) for seed in range(seeds)]

    def claim(self) -> None:
        """Write down what these runs are; more seeds, and other systems of them, are the same study."""
        recipes = {s: self.job(s, 0).recipe.model_dump(mode="json") for s in (*LADDER, *GRID)}
        files = [self.learn, *(path for test in self.tests for path in (test.trials, test.manifest))]
        claim(self.folder / "settings.json", {"recipes": recipes}, files)

    def rows(self, seeds: int, grid_seeds: int) -> list[dict[str, Any]]:
        """Return the results of all that has been run with all seeds."""
        rows = []
        for systems, count in ((LADDER, seeds), (GRID, grid_seeds)):
            jobs = {system: [self.job(system, seed) for seed in range(count)] for system in systems}
            run = [system for system in systems if all(job.done for job in jobs[system])]
            rows += [results_row(s, test, jobs[s]) for test, s in itertools.product(self.tests, run)]
        return rows


def ablations(folder: Path, learn: Path, tests: tuple[TestSet, ...]) -> list[Sweep]:
    """Return Table 2's sweeps; lambda = 1 is among those of the batch size."""
    common = recipe("cel-a-prot", learn, 0, *small(ABLATION_EPOCHS))
    return [Sweep(folder / name, common, grid, tests, jobs=JOBS) for name, grid in ABLATIONS.items()]


def ablation_rows(sweeps: Iterable[Sweep]) -> list[dict[str, Any]]:
    """Return the results of the sweeps that are through."""
    done = [s for s in sweeps if all(s.job(point, seed).done for point in s.points() for seed in s.seeds)]
    return [{**row, "system": f"cel-a-prot, {row['system']}"} for sweep in done for row in sweep.rows()]


def main() -> None:
    """Run it."""
    parser = parser_of(__doc__)
    parser.add_argument("--part", choices=["all", "ladder", "ablations", "finetune", "none"], default="all")
    parser.add_argument("--systems", nargs="+", choices=[*LADDER, *GRID], metavar="NAME", help="these alone")
    parser.add_argument("--out", type=Path, default=Path("runs/cel"))
    parser.add_argument("--first-light", type=Path, default=Path("runs/first-light"))
    parser.add_argument("--seeds", type=int, default=3, help="of the ladder")
    parser.add_argument("--grid-seeds", type=int, default=3, help="of the grid")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the ladder")
    parser.add_argument(
        "--choose", action="store_true", help="score held-out train speakers, write no results"
    )
    options = parser.parse_args()
    out, light, console = options.out.resolve(), options.first_light.resolve(), Console()
    learn, held = build(light, "mild", True)
    _, tests = build(light, "mild", False)
    folder = out / ("choose" if options.choose else "study")
    systems = Systems(folder, learn, tuple(held if options.choose else tests), options.epochs)
    systems.claim()
    sweeps = ablations(out / "ablations", learn, tuple(held))
    jobs = []
    for part, names, seeds in (("ladder", LADDER, options.seeds), ("finetune", GRID, options.grid_seeds)):
        if options.part in (part, "all"):
            jobs += systems.jobs([n for n in names if n in (options.systems or names)], seeds)
    run_jobs(list({job.folder: job for job in jobs}.values()), JOBS)
    if options.part in ("ablations", "all") and not options.systems:
        for sweep in sweeps:
            sweep.run(console)
    rows = systems.rows(options.seeds, options.grid_seeds)
    ablated = ablation_rows(sweeps)
    for shown in filter(None, (rows, ablated)):
        console.print(results_table(shown))
    if options.choose:
        return
    command = f"python benchmarks/cel.py --seeds {options.seeds} --grid-seeds {options.grid_seeds}"
    written = write_results(
        TOP / "docs" / "results",
        "cel",
        "The systems of the CEL paper",
        f"{command} --epochs {options.epochs}",
        [*rows, *ablated],
        notes(systems, rows, bool(ablated)),
    )
    console.print(f"written: {', '.join(str(w) for w in written)}")


NOTES = """\
`untrained`: random weights. `prot`, `a-prot`, `aat-...`, `cel-...`, `gcl`: {epochs} epochs each, by the
recipes of these names with batches of 32, crops of 1.5 s and an ECAPA-TDNN of 64 channels; `-noaug`
without augmentation. `gcl` is a reconstruction, see its docstring. `i-vector`: 10 iterations of EM, a
mixture sized by the hours of the corpus. None of these sees a label.

`finetune-START-LOSS` (Table 3): {grid} epochs with the labels of the training speakers, 16 speakers x 2
utterances a batch, crops of {seconds} s, no augmentation. START is `random`, `cel` (from `cel-a-prot`) or
`cont` (from `cel-a-cont`), so that `finetune-cel-a-prot` goes on from `cel-a-prot` with the loss A-Prot.
One that goes on has more epochs behind it than one from a random start, as in the paper, where both are
trained to the end.

`cel-a-prot, batch B` and `cel-a-prot, uniformity L` (Table 2): {ablation} epochs, one seed, on 25
*training* speakers held out (`held-...`). Lambda is 1 in the rows of batches, the batch 32 in those of
lambda (`uniformity`). Larger batches take fewer steps.

`cross-simulated` and `within-simulated`: 50 speakers of speechocean762 in 4 *simulated* recordings each;
`cross-wuw`: real telephone calls of 15 speakers, so look at the interval (95 %, speakers resampled).
Nothing was chosen on these trials. With one seed, half a point means little.
"""
REASONS = """\
Likely reasons where the order differs, none of them tested: 4,454 utterances (5.2 h) instead of a million,
{epochs} epochs instead of 150 to 500, batches of 32 instead of 200, so fewer negatives to tell apart and
fewer points to spread, crops of 1.5 s instead of 1.8 s, another encoder, and channels that are simulated.
"""


def notes(systems: Systems, rows: list[dict[str, Any]], ablated: bool) -> str:
    """Say what the rows are, what has not been run, and where the order differs from the paper's."""
    sizes = {"epochs": systems.epochs, "grid": GRID_EPOCHS, "ablation": ABLATION_EPOCHS}
    lines = [NOTES.format(**sizes, seconds=GRID_SECONDS)]
    run = {row["system"] for row in rows}
    missing = [f"`{s}`" for s in (*LADDER, *GRID) if s not in run] + (
        ["the ablations"] if not ablated else []
    )
    if missing:
        lines.append(f"Not run, or not with all seeds: {', '.join(missing)}.\n")
    paper = {}
    for system, name in LADDER.items():
        published = load_recipe(name).published
        if published is not None and system != "untrained":
            paper[system] = published.eer
    order = ", ".join(f"`{s}` {paper[s]:.1f}" for s in sorted(paper, key=lambda s: paper[s]))
    lines.append(f"The paper's order, EER % on VoxCeleb1 (Table 1): {order}.\n")
    for test in systems.tests:
        eer = {row["system"]: row["eer"] for row in rows if row["trials"] == test.name}
        lines += [f"* {test.name}: {said}" for said in (*order_said(eer, paper), *grid_said(eer))]
    lines += ["", REASONS.format(epochs=systems.epochs)]
    return "\n".join(lines)


def order_said(eer: dict[str, list[float]], paper: dict[str, float]) -> list[str]:
    """Say our order, and which pairs are the other way round in the paper, surely or by their means.

    What is less than :data:`TIE` apart in the paper has no order.
    """
    ours = sorted((s for s in paper if s in eer), key=lambda s: fmean(eer[s]))
    if len(ours) < 2:
        return []
    said = ["our order: " + ", ".join(f"`{s}` {100 * fmean(eer[s]):.1f}" for s in ours) + "."]
    pairs = [(a, b) for a, b in itertools.combinations(ours, 2) if paper[a] > paper[b] + TIE]
    for which, apart in (("every seed of one below every seed of the other", True), ("by the means", False)):
        found: dict[str, list[str]] = {}
        for a, b in pairs:
            if (max(eer[a]) < min(eer[b])) is apart:
                found.setdefault(a, []).append(f"`{b}`")
        named = "; ".join(f"`{a}` before {', '.join(behind)}" for a, behind in found.items())
        said.append(f"the other way round in the paper, {which}: {named or 'none'}.")
    return said


def grid_said(eer: dict[str, list[float]]) -> list[str]:
    """Say by how much each start lowers the EER of each loss, against a random start."""
    said = []
    for start in list(STARTS)[1:]:
        changes = [
            f"{loss} {100 * (fmean(before) - fmean(after)):.1f}"
            for loss in LOSSES
            if (before := eer.get(f"finetune-random-{loss}"))
            and (after := eer.get(f"finetune-{start}-{loss}"))
        ]
        if changes:
            said.append(f"EER points less from `{STARTS[start]}` than from random: {', '.join(changes)}.")
    return said


if __name__ == "__main__":
    main()
