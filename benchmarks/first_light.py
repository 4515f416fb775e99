"""First light: SimCLR, and three ways to go on from it, on real speech with simulated and real recordings.

    python benchmarks/first_light.py [--out FOLDER] [--seeds 3]

Learns, without labels, from the train split of the corpora in ``IDEMVOX_CORPORA`` (default
``../shared/corpora``): speechocean762 and LibriSpeech, each speaker's utterances dealt into simulated
recordings, and real telephone calls (wuw2) as they are.  Scores dev speakers only: speechocean762 across and
within simulated recordings, and wuw2 across real calls.  Writes ``docs/results/first-light.{md,json}``.
The settings below were chosen on held-out *train* speakers (``--choose``), never on these lists.

It can be interrupted and run again; it goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console

from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.prepare import prepare_table
from idemvox.corpus.simulate import simulate_recordings
from idemvox.demo import study_table
from idemvox.study import Plan, Study, TestSet
from idemvox.verification.picture import tsne_picture
from idemvox.verification.results import write_results
from idemvox.verification.trials import make_trials

STRENGTH = "medium"
RECORDINGS = 10
HELD_EVERY = 8  # with --choose: every eighth speechocean762 train speaker is held out
BASE_EPOCHS, MORE_EPOCHS = 12, 4
BASE = (
    "encoder.channels=[8,16,32,64]",
    "framework.seconds=1.5",
    "training.batch=64",
    "training.precision=bf16",
    "training.workers=0",
)
SSPS = ("positives.clusters=1500", "positives.neighbours=1", "positives.queue=1000000", "positives.seconds=3")


def corpora() -> Path:
    """Find the corpora, or say where they should be."""
    folder = Path(os.environ.get("IDEMVOX_CORPORA", "../shared/corpora")).resolve()
    if not (folder / "manifest.csv").is_file():
        sys.exit(f"no corpora in {folder}: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    return folder


def split(folder: Path, out: Path, name: str) -> Manifest:
    """Return a split of the corpora as a checked manifest."""
    path = out / f"{name}.csv"
    if not path.is_file():
        prepare_table(folder / "manifest.csv", path, where={"split": name}, min_seconds=1.5)
    return load_manifest(path)


def source(utterance: Utterance) -> str:
    """Return which corpus an utterance is from."""
    return Path(utterance.id).parts[1]


def simulated(manifest: Manifest, out: Path, recordings: int, seed: int, cut: bool) -> Manifest:
    """Deal each speaker's utterances into simulated recordings."""
    return simulate_recordings(
        manifest,
        out,
        recordings,
        ChannelSpec.preset(STRENGTH),
        seed,
        seconds=(1.5, 3.0) if cut else None,
        fewest=3,
        workers=os.cpu_count() or 1,
    )


def build(out: Path, choose: bool) -> tuple[Path, list[TestSet]]:
    """Make the training manifest and the test sets."""
    folder = corpora()
    train = split(folder, out, "train")
    readers = train.select(lambda u: source(u) in ("speechocean762", "librispeech"))
    held = (
        set(readers.select(lambda u: source(u) == "speechocean762").speakers[::HELD_EVERY])
        if choose
        else set()
    )
    made = simulated(readers.select(lambda u: u.speaker not in held), out / "train", RECORDINGS, 1, True)
    calls = train.select(lambda u: source(u) == "wuw2")
    rows = [
        Utterance(u.id, str(m.path(u)), u.seconds, u.rate, u.speaker, u.recording)
        for m in (made, calls)
        for u in m
    ]
    learn = out / "learn.csv"
    save_manifest(Manifest(rows, out), learn)
    if choose:
        test = simulated(readers.select(lambda u: u.speaker in held), out / "held", 4, 2, False)
        return learn, [
            TestSet.make(make_trials(test, kind, name=f"held-{kind}"), out / "held" / "manifest.csv", out)
            for kind in ("across", "within")
        ]
    dev = split(folder, out, "dev")
    test = simulated(dev.select(lambda u: source(u) == "speechocean762"), out / "dev", 4, 3, False)
    listed = out / "dev" / "manifest.csv"
    return learn, [
        TestSet.make(make_trials(test, "across", name="cross-simulated"), listed, out),
        TestSet.make(make_trials(test, "within", name="within-simulated"), listed, out),
        TestSet("cross-wuw", folder / "trials" / "wuw_cross.txt", out / "dev.csv"),
    ]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/first-light"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--choose", action="store_true", help="score held-out train speakers, write no results"
    )
    parser.add_argument("overrides", nargs="*", help="recipe KEY=VALUE for every run")
    options = parser.parse_args()
    console = Console()
    learn, tests = build(options.out, options.choose)
    plan = Plan(
        BASE_EPOCHS, MORE_EPOCHS, tuple(range(options.seeds)), (*BASE, *banks(), *options.overrides), SSPS
    )
    study = Study(options.out, learn, tests, plan)
    study.run()
    console.print(study_table(study))
    if options.choose:
        return
    command = f"python benchmarks/first_light.py --seeds {options.seeds}"
    results = Path(__file__).resolve().parents[1] / "docs" / "results"
    written = write_results(results, "first-light", "First light", command, study.rows(), notes(study))
    tsne_picture(study.panels(tests[0], 0), results / "first-light.png")
    console.print(f"written: {', '.join(str(w) for w in written)}")


def banks() -> tuple[str, ...]:
    """Return the augmentation banks that the corpora hold."""
    return f"augment.noise={corpora() / 'noise'}", f"augment.music={corpora() / 'music'}"


def notes(study: Study) -> str:
    """Say what the rows are."""
    rows = {(r["system"], r["trials"]): r for r in study.rows()}
    lines = []
    for test in study.tests:
        control, ssps = (rows[s, test.name]["eer"] for s in ("simclr", "simclr-ssps"))
        change = [100 * (1 - b / a) for a, b in zip(control, ssps, strict=True)]
        lines.append(
            f"* {test.name}: SSPS lowers the EER of as much more SimCLR by {sum(change) / len(change):.1f} % "
            f"(per seed {', '.join(f'{c:.1f}' for c in change)})."
        )
    return (
        NOTES.read_text(encoding="utf-8") + "\n" + "\n".join(lines) if NOTES.is_file() else "\n".join(lines)
    )


NOTES = Path(__file__).with_name("first_light_notes.md")

if __name__ == "__main__":
    main()
