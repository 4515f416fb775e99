"""The base of `make demo`, and how the demo's settings were chosen.

    python benchmarks/demo_base.py [--seeds 0 1 2] [--write]

Trains SimCLR on the demo's voices (Debian packages, in *simulated* recordings), leaving out the voices that
the demo scores and five more. On these five, the settings of the systems that continue the base are chosen:
SimCLR, SSPS as published, SSPS with recordings known, and positives by label. Writes their scores to
docs/results/demo-choice.{md,json}.

``--write`` puts the base into the package, with weights in half precision. An interrupted run resumes.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from safetensors.torch import load_file, save

from common import parser_of
from idemvox.files import atomic_write, read_json, write_json
from idemvox.reports.results import write_results
from idemvox.studies.demo import BASE, SMALL, plan, results_table
from idemvox.studies.demo_voices import find_voices, hold_out, shuffled, split_voices
from idemvox.studies.jobs import Job, TestSet, run_jobs
from idemvox.studies.ssps import Study
from idemvox.verification.drawing import make_trials

CHOOSING = 5
LICENCE = (
    "that of idemvox; the voices are from Debian packages under free licences (GPL, CC BY-SA, public domain: "
    "`idemvox demo` writes their texts beside the voices) and are not included"
)


NOTES = f"""\
Every system continues `simclr-base` ({SMALL.base_epochs} epochs) for {SMALL.more_epochs} epochs. Scored on
five voices at three speeds each, in 4 *simulated* recordings, which the demo's own scores do not contain.
`known`: what a system was given besides the audio.
"""


def ship(base: Path, voices: list[str], chosen_on: list[str]) -> None:
    """Copy a base into the package, weights in half precision, with its voices."""
    weights = load_file(base / "model.safetensors")
    half = {
        name: value.half() if value.is_floating_point() and "running" not in name else value
        for name, value in weights.items()
    }
    BASE.mkdir(exist_ok=True)
    with atomic_write(BASE / "model.safetensors", "wb") as file:
        file.write(save(half))
    description = read_json(base / "model.json")
    description["provenance"] |= {
        "command": "python benchmarks/demo_base.py --write",
        "voices": voices,
        "chosen on": chosen_on,
        "licence": LICENCE,
    }
    write_json(BASE / "model.json", description)


def main() -> None:
    """Run the study."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo-base"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--write", action="store_true", help="put the base into the package")
    args = parser.parse_args()
    out, console = args.out.resolve(), Console()
    source, _ = find_voices(None, False, console, True)
    held = hold_out(source)
    rest = source.select(lambda u: u.speaker not in held)
    choosing = set([name for name in shuffled(source) if name not in held][:CHOOSING])
    learnt = sorted({str(u.speaker) for u in rest} - choosing)
    train, test, _ = split_voices(
        rest,
        choosing,
        out,
        simulate=True,
        utterances=SMALL.utterances,
        recordings=SMALL.recordings,
        progress=True,
    )
    tests = [
        TestSet.make(make_trials(test, kind, name=f"choosing, {kind}"), test.root / "manifest.csv", out)
        for kind in ("across", "within")
    ]
    alone = plan(SMALL, train, (0,), None)
    base = Job(out / "base", alone.recipe("simclr-base", 0, train.root / "manifest.csv", None), ())
    run_jobs([base], 1)
    continued = plan(SMALL, train, tuple(args.seeds), base.folder / "model")
    study = Study(out, train.root / "manifest.csv", tests, continued, args.jobs)
    study.run()
    console.print(results_table(study.rows()))
    results = Path(__file__).resolve().parents[1] / "docs" / "results"
    command = f"python benchmarks/demo_base.py --seeds {' '.join(map(str, args.seeds))}"
    write_results(results, "demo-choice", "Choosing the demo's settings", command, study.rows(), NOTES)
    if args.write:
        ship(base.folder / "model", learnt, sorted(choosing))


if __name__ == "__main__":
    main()
