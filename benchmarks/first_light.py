"""First light: SimCLR and three ways to continue it, on real speech in simulated and real recordings.

    python benchmarks/first_light.py [--channel mild] [--out FOLDER] [--seeds 3]

Learns without labels from the train split of the corpora in ``IDEMVOX_CORPORA`` (default
``../shared/corpora``). It takes all readers of speechocean762 except every eighth, with the utterances of
each dealt into 5 simulated recordings, and the unchanged telephone calls (wuw2) of the people who called more
than once. Scores dev speakers only: speechocean762 across and within simulated recordings, and wuw2 across
real calls. Writes ``docs/results/first-light.{md,json,png}``. ``--channel bridged`` writes
``first-light-bridged`` instead: its simulated recordings hardly degrade the speech, and SimCLR is continued
for longer. The settings below were chosen on the held-out readers (``--choose``) and by the share of correct
pseudo-positives among the training utterances.

An interrupted run resumes.
"""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from common import corpora, parser_of
from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.prepare import prepare_table
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.reports.picture import tsne_picture
from idemvox.reports.results import write_results
from idemvox.studies.demo import results_table
from idemvox.studies.jobs import TestSet
from idemvox.studies.ssps import Plan, Study
from idemvox.verification.drawing import make_trials

# each recording has a room, a device and a noise floor; half of the mild ones pass through MP3 at 20 kbit/s
CHANNELS = {
    "mild": ChannelSpec(4.0, (0.05, 0.25), (20.0, 35.0), (("none", 1.0), ("mp3", 1.0)), 0.0),
    "bridged": ChannelSpec(3.0, (0.05, 0.15), (30.0, 40.0), (("none", 1.0),), 0.0),
}
BASE_EPOCHS = 8
MORE_EPOCHS = {"mild": 4, "bridged": 7}
RECORDINGS = 5
PER_CALLER = 60  # at most so many utterances of a caller
HELD_EVERY = 8  # every eighth training speaker of speechocean762 is held out, for choosing settings
BASE = (
    "encoder.name=ecapa_tdnn",
    "encoder.channels=128",
    "encoder.mfa_channels=384",
    "framework.seconds=1.5",
    "training.batch=32",
    "training.precision=bf16",
    "training.workers=0",
    "training.lr_decay=0.4",
    "training.lr_every=4",
)
MORE = ("training.lr=2.5e-3",)
"""The rate is multiplied by 0.4 every 4 epochs, counted from the start of the base: 4e-4, then 1.6e-4."""
SSPS = (
    "positives.clusters=4200",
    "positives.neighbours=1",
    "positives.queue=1000000",
    "positives.seconds=4",
    "positives.refresh=true",
    "positives.whiten=0.5",
)


def split(folder: Path, out: Path, name: str, min_seconds: float = 1.5) -> Manifest:
    """Return a split of the corpora as a checked manifest, without utterances with less speech than that."""
    path = out / (f"{name}.csv" if min_seconds == 1.5 else f"{name}-{min_seconds:g}.csv")
    if not path.is_file():
        prepare_table(folder / "manifest.csv", path, where={"split": name}, min_seconds=min_seconds)
    return load_manifest(path)


def source(utterance: Utterance) -> str:
    """Return the name of the corpus that an utterance is from."""
    return Path(utterance.id).parts[1]


def simulated(manifest: Manifest, out: Path, channel: str, recordings: int, seed: int) -> Manifest:
    """Deal each speaker's utterances into simulated recordings."""
    return simulate_recordings(
        manifest,
        out,
        recordings,
        CHANNELS[channel],
        seed,
        fewest=2,
        workers=os.cpu_count() or 1,
    )


def callers(train: Manifest) -> Manifest:
    """Return unchanged utterances of the people who called more than once."""
    calls = train.select(lambda u: source(u) == "wuw2")
    of: dict[str | None, list[Utterance]] = {}
    for utterance in calls:
        of.setdefault(utterance.speaker, []).append(utterance)
    kept = {
        u.id
        for mine in of.values()
        if len({u.recording for u in mine}) > 1
        for u in mine[:: max(1, len(mine) // PER_CALLER)][:PER_CALLER]
    }
    return calls.select(lambda u: u.id in kept)


def build(out: Path, channel: str, choose: bool) -> tuple[Path, list[TestSet]]:
    """Make the training manifest and the test sets."""
    folder = corpora()
    train = split(folder, out, "train")
    readers = train.select(lambda u: source(u) == "speechocean762")
    held = set(readers.speakers[::HELD_EVERY])
    made = simulated(readers.select(lambda u: u.speaker not in held), out / "train", channel, RECORDINGS, 1)
    rows = [
        Utterance(u.id, str(m.path(u)), u.seconds, u.rate, u.speaker, u.recording)
        for m in (made, callers(train))
        for u in m
    ]
    learn = out / "learn.csv"
    save_manifest(Manifest(rows, out), learn)
    if choose:
        test = simulated(readers.select(lambda u: u.speaker in held), out / "held", channel, 4, 2)
        return learn, [
            TestSet.make(make_trials(test, kind, name=f"held-{kind}"), out / "held" / "manifest.csv", out)
            for kind in ("across", "within")
        ]
    dev = split(folder, out, "dev")
    test = simulated(dev.select(lambda u: source(u) == "speechocean762"), out / "dev", channel, 4, 3)
    listed = out / "dev" / "manifest.csv"
    split(folder, out, "dev", 0.1)  # the list of real calls has shorter utterances too
    return learn, [
        TestSet.make(make_trials(test, "across", name="cross-simulated"), listed, out),
        TestSet.make(make_trials(test, "within", name="within-simulated"), listed, out),
        TestSet("cross-wuw", folder / "trials" / "wuw_cross.txt", out / "dev-0.1.csv"),
    ]


def main() -> None:
    """Run the study."""
    parser = parser_of(__doc__)
    parser.add_argument("--channel", choices=list(CHANNELS), default="mild")
    parser.add_argument("--out", type=Path, help="default: runs/first-light, or runs/first-light-bridged")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--choose", action="store_true", help="score held-out training speakers; writes no results"
    )
    parser.add_argument("overrides", nargs="*", help="KEY=VALUE, a recipe key for every run")
    options = parser.parse_args()
    console = Console()
    name = "first-light" if options.channel == "mild" else f"first-light-{options.channel}"
    out = (options.out or Path("runs") / name).resolve()
    learn, tests = build(out, options.channel, options.choose)
    plan = Plan(
        BASE_EPOCHS,
        MORE_EPOCHS[options.channel],
        tuple(range(options.seeds)),
        (*BASE, *banks(), *options.overrides),
        MORE,
        SSPS,
    )
    folder = out / ("choose" if options.choose else "study")
    study = Study(folder, learn, tests, plan)
    study.run()
    console.print(results_table(study.rows()))
    if options.choose:
        return
    channel = "" if options.channel == "mild" else f" --channel {options.channel}"
    command = f"python benchmarks/first_light.py --seeds {options.seeds}{channel}"
    results = Path(__file__).resolve().parents[1] / "docs" / "results"
    written = write_results(results, name, "First light", command, study.rows(), notes(study))
    tsne_picture(study.panels(tests[0], 0), results / f"{name}.png")
    console.print(f"written: {', '.join(str(w) for w in written)}")


def banks() -> tuple[str, ...]:
    """Return the recipe keys of the augmentation banks in the corpora."""
    return f"augment.noise={corpora() / 'noise'}", f"augment.music={corpora() / 'music'}"


NOTES = """\
`untrained` has random weights. The other rows share one SimCLR run per seed and continue it for equally many
epochs: `simclr` with positives of the same utterance, `simclr-ssps` with pseudo-positives, and
`simclr-supervised` with positives by label. `cross-simulated` and `within-simulated` are 50 speakers of
speechocean762 in 4 *simulated* recordings each. `cross-wuw` is real telephone calls of only 15 speakers, so
look at the interval (95 %, speakers resampled). The study in `bridged` channels, and one setting of SSPS
before it, had already been scored on the same development speakers. The `mild` channels and the length of
this study were chosen on held-out training speakers. See also [what was found on the
way](first-light-findings.md).
"""


def notes(study: Study) -> str:
    """Describe the rows, and state the effect of SSPS."""
    rows = {(r["system"], r["trials"]): r for r in study.rows()}
    lines = [NOTES]
    for test in study.tests:
        control, ssps = (rows[s, test.name]["eer"] for s in ("simclr", "simclr-ssps"))
        change = [100 * (1 - b / a) for a, b in zip(control, ssps, strict=True)]
        each = ", ".join(f"{c:.1f}" for c in change)
        lines.append(
            f"* {test.name}: compared with SimCLR continued for as long, SSPS lowers the EER by "
            f"{sum(change) / len(change):.1f} % relative (per seed {each})."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
