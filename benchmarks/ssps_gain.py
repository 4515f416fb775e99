"""What SSPS gains over as much more SimCLR: as published, agglomerated, with recordings known, by label.

    python benchmarks/ssps_gain.py [--corpus mild dense] [--seeds 0 1 2] [--out runs/ssps-gain]

Learns from the train split of the corpora in ``IDEMVOX_CORPORA`` (default ``../shared/corpora``) in
*simulated* recordings and scores dev speakers, across and within recordings, and training readers held out.

* mild: the readers of speechocean762 in 5 recordings each, channels as in benchmarks/first_light.py.
* dense: these readers and the children's-game voices of gcompris, the latter at three speeds, in channels of
  the default ``ChannelSpec``, which are stronger: many utterances and recordings of a voice.

Every system goes on from the same SimCLR run of its seed for as many epochs. Settings of SSPS are those of a
trial on held-out readers; nothing was chosen on the trials that report.

Interrupted, it resumes with the same command. Writes docs/results/ssps-gain.{md,json}.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common import corpora, parser_of
from first_light import CHANNELS, HELD_EVERY, source, split
from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.recipe import Recipe
from idemvox.studies.jobs import Job, TestSet
from idemvox.verification.trials import make_trials

SPEEDS = (0.9, 1.0, 1.1)
SECONDS = 4.2  # of an utterance at most: as in the bundle of benchmarks/gpu_bundle.py


@dataclass(frozen=True)
class Setting:
    """A corpus to learn from, and for how long.

    Attributes:
        spec: of the simulated channels.
        dense: whether the voices of gcompris are in it.
        base_epochs, more_epochs: of SimCLR, and of each system after it.
        clusters: K of the published sampler, as a share of the utterances.
        groups: K of agglomeration, as a share of the utterances.
        recording_groups: K as a share of the recordings, where these are clustered.
    """

    spec: ChannelSpec
    dense: bool
    base_epochs: int
    more_epochs: int
    clusters: float
    groups: float
    recording_groups: float


SETTINGS = {
    "mild": Setting(CHANNELS["mild"], False, 60, 12, 0.94, 0.135, 0.26),
    "dense": Setting(ChannelSpec(), True, 40, 10, 0.2, 0.1, 0.34),
}
BASE = (
    "encoder.name=ecapa_tdnn",
    "encoder.channels=128",
    "encoder.mfa_channels=384",
    "framework.seconds=1.5",
    "training.batch=128",
    "training.precision=bf16",
    "training.lr_decay=0.5",
    "training.save_minutes=60",
)
SYSTEMS = (
    "simclr",
    "simclr-ssps",
    "simclr-ssps-agglomerative",
    "simclr-ssps-recordings",
    "simclr-supervised",
)


def positives(system: str, setting: Setting, utterances: int, recordings: int) -> tuple[str, ...]:
    """Return what a system's sampler is told."""
    if system == "simclr":
        return ()
    if system == "simclr-supervised":
        return ("positives.name=supervised",)
    common = (
        "positives.name=ssps",
        "positives.refresh=true",
        "positives.queue=1000000",
        "positives.seconds=4",
    )
    if system == "simclr-ssps":
        k = round(setting.clusters * utterances)
        return (*common, f"positives.clusters={k}", "positives.neighbours=1", "positives.whiten=0.5")
    grouped = (*common, "positives.clusterer=agglomerative", "positives.neighbours=0", "positives.whiten=0.7")
    if system == "simclr-ssps-agglomerative":
        return (*grouped, f"positives.clusters={round(setting.groups * utterances)}")
    k = round(setting.recording_groups * recordings)
    return (*grouped, "positives.unit=recording", "positives.nearest_recordings=6", f"positives.clusters={k}")


@dataclass(frozen=True)
class Data:
    """What :func:`build` made."""

    train: Path
    utterances: int
    recordings: int
    tests: tuple[TestSet, ...]


def build(out: Path, name: str, train: Manifest, dev: Manifest, workers: int) -> Data:
    """Simulate the recordings of a setting, and pack them; what is there is used.

    Args:
        out: folder.
        name: of the setting.
        train, dev: utterances with speakers, whose ids name their corpus (``train/speechocean762/...``).
        workers: processes.
    """
    setting = SETTINGS[name]
    readers = train.select(lambda u: source(u) == "speechocean762")
    held = set(readers.speakers[::HELD_EVERY])

    def simulated(part: Manifest, where: str, recordings: int, seed: int, **more: object) -> Manifest:
        return simulate_recordings(
            part,
            out / where,
            recordings,
            setting.spec,
            seed,
            workers=workers,
            progress=False,
            **more,  # type: ignore[arg-type]
        )

    parts = [
        simulated(
            readers.select(lambda u: u.speaker not in held), "readers", 5, 1, fewest=2, seconds=(1.5, SECONDS)
        )
    ]
    if setting.dense:
        dense = train.select(lambda u: source(u) == "gcompris")
        parts.append(simulated(dense, "dense", 16, 4, fewest=3, speeds=SPEEDS, seconds=(1.5, SECONDS)))
    rows = [
        Utterance(u.id, str(m.path(u)), u.seconds, u.rate, u.speaker, u.recording) for m in parts for u in m
    ]
    learn = Manifest(rows, out)
    save_manifest(learn, out / "learn.csv")
    if not (out / "pack" / "pack.json").is_file():
        pack(out / "learn.csv", out / "pack", progress=False)
    tests = []
    for where, part, seed in (("held", readers.select(lambda u: u.speaker in held), 2), ("dev", dev, 3)):
        made = simulated(part, where, 4, seed, fewest=2, seconds=(1.5, SECONDS))
        tests += [
            TestSet.make(
                make_trials(made, kind, name=f"{name}-{where}-{kind}"), out / where / "manifest.csv", out
            )
            for kind in ("across", "within")
        ]
    return Data(out / "pack", len(rows), len({(u.speaker, u.recording) for u in rows}), tuple(tests))


def jobs(
    name: str, data: Data, folder: Path, seeds: Sequence[int], overrides: tuple[str, ...], scale: float = 1.0
) -> list[Job]:
    """Return the runs of a setting, the most urgent first.

    Args:
        name: of the setting.
        data: made by :func:`build`.
        folder: of the study; ``NAME/seed-S/SYSTEM`` holds each run.
        seeds: a whole study each.
        overrides: recipe keys of every run.
        scale: of the numbers of epochs.
    """
    setting = SETTINGS[name]
    base, more = (max(1, round(scale * n)) for n in (setting.base_epochs, setting.more_epochs))
    fall = max(1, base // 5)  # the rate is halved so often: by 16 at the end of the base
    made = []
    for seed in seeds:
        start = folder / name / f"seed-{seed}" / "simclr-base"
        common = (f"seed={seed}", f"data.manifest={data.train}", *BASE, *overrides)
        rate = (f"training.lr_every={fall}", f"training.epochs={base}")
        made.append(Job(start, Recipe().override(["name=simclr-base", *common, *rate]), ()))
        half = max(1, more // 2)  # 4e-4 for one half and 2e-4 for the other, whatever epochs came before
        lr = 4e-4 * 2 ** (base // half)
        rate = (f"training.lr={lr}", f"training.lr_every={half}", f"training.epochs={more}")
        for system in SYSTEMS:
            keys = positives(system, setting, data.utterances, data.recordings)
            recipe = Recipe().override([f"name={system}", *common, *rate, f"start_from={start}", *keys])
            made.append(Job(start.with_name(system), recipe, data.tests))
    return made


def from_corpora(out: Path) -> tuple[Manifest, Manifest]:
    """Return the train and dev splits of the corpora."""
    train, dev = (split(corpora(), out, name) for name in ("train", "dev"))
    return train, dev.select(lambda u: source(u) == "speechocean762")


def from_bundle(folder: Path) -> tuple[Manifest, Manifest]:
    """Return the same of an unpacked bundle."""
    whole = load_manifest(folder / "speech.csv")
    train = whole.select(lambda u: Path(u.id).parts[0] == "train")
    return train, whole.select(lambda u: Path(u.id).parts[0] == "dev")


def main() -> None:
    """Run it on this machine."""
    from idemvox.studies.jobs import run_jobs

    parser = parser_of(__doc__)
    parser.add_argument("--corpus", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ssps-gain"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("overrides", nargs="*", help="recipe KEY=VALUE for every run")
    args = parser.parse_args()
    out = args.out.resolve()
    banks = (f"augment.noise={corpora() / 'noise'}", f"augment.music={corpora() / 'music'}")
    every = []
    for name in args.corpus:
        data = build(out / "data" / name, name, *from_corpora(out), os.cpu_count() or 1)
        every += jobs(name, data, out, args.seeds, (*banks, *args.overrides))
    run_jobs(every, args.jobs)


if __name__ == "__main__":
    main()
