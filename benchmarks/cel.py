"""The CEL paper's systems compared: the ladder of Table 1, two ablations, and the grid of Table 3.

    python benchmarks/cel.py [--part all] [--systems NAME ...] [--seeds 3] [--grid-seeds 3] [--epochs 4]

All systems learn from the same utterances as SimCLR in first_light.py (mild channels) and are scored on the
same trials. Each uses its own recipe, reduced for two cores: an ECAPA-TDNN with 64 channels (half as many as
SimCLR's there), crops of 1.5 s, and batches of 32. The grid starts from the ladder's models of the same seed,
or from random weights. The ablations (batch size, lambda) are scored on held-out training speakers, not on
the speakers of the other rows. ``--choose`` scores every system on the held-out speakers and writes no
results.

Writes docs/results/cel.{md,json} with the rows for which all seeds have been run; ``--part none`` only writes
them. An interrupted run resumes, also if another part is asked for.
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

EPOCHS = 4  # of the ladder; one takes 1.2 core-minutes, or 1.8 with AAT
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
    """Return a recipe of idemvox with this manifest and seed."""
    common = (f"data.manifest={learn}", f"seed={seed}", "training.workers=0")
    return load_recipe(name).override([*common, *overrides])


def small(epochs: int) -> tuple[str, ...]:
    """Return the keys that make a recipe small; half-way, the learning rate is multiplied by 0.4."""
    return *BASE, *ENCODER, *banks(), f"training.epochs={epochs}", f"training.lr_every={(epochs + 1) // 2}"


@dataclass(frozen=True)
class Systems:
    """The runs of the ladder and the grid; each has the folder ``SYSTEM/seed-S``."""

    folder: Path
    learn: Path
    tests: tuple[TestSet, ...]
    epochs: int

    def job(self, system: str, seed: int) -> Job:
        """Return the run of a system with a seed."""
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
        """Return the runs of some systems, after the runs that they start from."""
        wanted = list(systems)
        starts = [start for system in wanted if (start := GRID.get(system, (None,))[0])]
        return [self.job(s, seed) for s in dict.fromkeys([*starts, *wanted]) for seed in range(seeds)]

    def claim(self) -> None:
        """Record the study's settings, or check them; more seeds or systems do not make it another study."""
        recipes = {s: self.job(s, 0).recipe.model_dump(mode="json") for s in (*LADDER, *GRID)}
        files = [self.learn, *(path for test in self.tests for path in (test.trials, test.manifest))]
        claim(self.folder / "settings.json", {"recipes": recipes}, files)

    def rows(self, seeds: int, grid_seeds: int) -> list[dict[str, Any]]:
        """Return the results of the systems that have been run with all seeds."""
        rows = []
        for systems, count in ((LADDER, seeds), (GRID, grid_seeds)):
            jobs = {system: [self.job(system, seed) for seed in range(count)] for system in systems}
            run = [system for system in systems if all(job.done for job in jobs[system])]
            rows += [results_row(s, test, jobs[s]) for test, s in itertools.product(self.tests, run)]
        return rows


def ablations(folder: Path, learn: Path, tests: tuple[TestSet, ...]) -> list[Sweep]:
    """Return the sweeps of Table 2; lambda = 1 is part of the sweep over batch sizes."""
    common = recipe("cel-a-prot", learn, 0, *small(ABLATION_EPOCHS))
    return [Sweep(folder / name, common, grid, tests, jobs=JOBS) for name, grid in ABLATIONS.items()]


def ablation_rows(sweeps: Iterable[Sweep]) -> list[dict[str, Any]]:
    """Return the results of the finished sweeps."""
    done = [s for s in sweeps if all(s.job(point, seed).done for point in s.points() for seed in s.seeds)]
    return [{**row, "system": f"cel-a-prot, {row['system']}"} for sweep in done for row in sweep.rows()]


def main() -> None:
    """Run the benchmark."""
    parser = parser_of(__doc__)
    parser.add_argument("--part", choices=["all", "ladder", "ablations", "finetune", "none"], default="all")
    parser.add_argument(
        "--systems", nargs="+", choices=[*LADDER, *GRID], metavar="NAME", help="only these systems"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/cel"))
    parser.add_argument("--first-light", type=Path, default=Path("runs/first-light"))
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds of the ladder")
    parser.add_argument("--grid-seeds", type=int, default=3, help="number of seeds of the grid")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="number of epochs of the ladder")
    parser.add_argument(
        "--choose", action="store_true", help="score held-out training speakers; writes no results"
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
`untrained` has random weights. `prot`, `a-prot`, `aat-...`, `cel-...` and `gcl` are trained for {epochs}
epochs by the recipes of these names, with batches of 32, crops of 1.5 s and an ECAPA-TDNN with 64 channels;
`-noaug` means without augmentation. `gcl` is a reconstruction, as its docstring explains. `i-vector` is
trained by 10 iterations of EM, with a mixture whose size depends on the hours of speech. None of these
systems uses labels.

`finetune-START-LOSS` (Table 3) is trained for {grid} epochs with the labels of the training speakers, in
batches of 16 speakers x 2 utterances, on crops of {seconds} s and without augmentation. START is `random`,
`cel` (from `cel-a-prot`) or `cont` (from `cel-a-cont`); for example, `finetune-cel-a-prot` fine-tunes
`cel-a-prot` with the loss A-Prot. A system that starts from a trained model has had more epochs in total than
one that starts from random weights. This is also true in the paper, but there both are fully trained.

`cel-a-prot, batch B` and `cel-a-prot, uniformity L` (Table 2) are trained for {ablation} epochs with one seed
and scored on 25 held-out *training* speakers (`held-...`). Lambda (`uniformity`) is 1 in the rows that vary
the batch, and the batch is 32 in the rows that vary lambda. Larger batches take fewer steps.

`cross-simulated` and `within-simulated` are 50 speakers of speechocean762 in 4 *simulated* recordings each.
`cross-wuw` is real telephone calls of only 15 speakers, so look at the interval (95 %, speakers resampled).
Nothing was chosen on these trials. With one seed, a difference of half a point means little.
"""
REASONS = """\
Likely reasons why the order differs from the paper's, none of them tested: 4,454 utterances (5.2 h) instead
of a million; {epochs} epochs instead of 150 to 500; batches of 32 instead of 200, so fewer negatives to tell
apart and fewer points to spread; crops of 1.5 s instead of 1.8 s; another encoder; simulated channels.
"""


def notes(systems: Systems, rows: list[dict[str, Any]], ablated: bool) -> str:
    """Describe the rows, list what has not been run, and compare the order with the paper's."""
    sizes = {"epochs": systems.epochs, "grid": GRID_EPOCHS, "ablation": ABLATION_EPOCHS}
    lines = [NOTES.format(**sizes, seconds=GRID_SECONDS)]
    run = {row["system"] for row in rows}
    missing = [f"`{s}`" for s in (*LADDER, *GRID) if s not in run] + (
        ["the ablations"] if not ablated else []
    )
    if missing:
        lines.append(f"Not run with all seeds: {', '.join(missing)}.\n")
    paper = {}
    for system, name in LADDER.items():
        published = load_recipe(name).published
        if published is not None and system != "untrained":
            paper[system] = published.eer
    order = ", ".join(f"`{s}` {paper[s]:.1f}" for s in sorted(paper, key=lambda s: paper[s]))
    lines.append(f"The paper's order, EER % on VoxCeleb1 (Table 1): {order}.\n")
    for test in systems.tests:
        eer = {row["system"]: row["eer"] for row in rows if row["trials"] == test.name}
        lines += [f"* {test.name}: {line}" for line in (*order_lines(eer, paper), *grid_lines(eer))]
    lines += ["", REASONS.format(epochs=systems.epochs)]
    return "\n".join(lines)


def order_lines(eer: dict[str, list[float]], paper: dict[str, float]) -> list[str]:
    """Return our order, and the pairs that the paper orders differently: with all seeds, or by the mean only.

    Systems whose EERs differ by less than :data:`TIE` in the paper have no order.
    """
    ours = sorted((s for s in paper if s in eer), key=lambda s: fmean(eer[s]))
    if len(ours) < 2:
        return []
    lines = ["our order: " + ", ".join(f"`{s}` {100 * fmean(eer[s]):.1f}" for s in ours) + "."]
    pairs = [(a, b) for a, b in itertools.combinations(ours, 2) if paper[a] > paper[b] + TIE]
    for which, apart in (("with all seeds", True), ("by the mean only", False)):
        found: dict[str, list[str]] = {}
        for a, b in pairs:
            if (max(eer[a]) < min(eer[b])) is apart:
                found.setdefault(a, []).append(f"`{b}`")
        named = "; ".join(f"`{a}` before {', '.join(behind)}" for a, behind in found.items())
        lines.append(f"ordered differently in the paper, {which}: {named or 'none'}.")
    return lines


def grid_lines(eer: dict[str, list[float]]) -> list[str]:
    """Return by how much each start lowers the EER of each loss, compared with random weights."""
    lines = []
    for start in list(STARTS)[1:]:
        changes = [
            f"{loss} {100 * (fmean(before) - fmean(after)):.1f}"
            for loss in LOSSES
            if (before := eer.get(f"finetune-random-{loss}"))
            and (after := eer.get(f"finetune-{start}-{loss}"))
        ]
        if changes:
            start_of = STARTS[start]
            lines.append(f"EER points gained by starting from `{start_of}`: {', '.join(changes)}.")
    return lines


if __name__ == "__main__":
    main()
