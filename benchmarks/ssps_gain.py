"""What SSPS gains over as much more SimCLR: as published, agglomerated, with recordings known, by label.

    python benchmarks/ssps_gain.py [--corpus mild dense] [--family simclr dino cel ...] [--seeds 0 1 2]

Learns from the train split of the corpora in ``IDEMVOX_CORPORA`` (default ``../shared/corpora``) in
*simulated* recordings and scores dev speakers, across and within recordings, and training readers held out.

* mild: the readers of speechocean762 in 5 recordings each, channels as in benchmarks/first_light.py.
* dense: these readers and the children's-game voices of gcompris, the latter at three speeds, in channels of
  the default ``ChannelSpec``, which are stronger: many utterances and recordings of a voice.

A family is a base and the systems that continue it, each for the same number of epochs:

* simclr, cel, dino: the framework; unchanged, with SSPS in three ways, and with positives by label.
* simclr-unaugmented: the same with no augmentation at all.
* grid: SimCLR with the published sampler, for every K and M (Table 2 of the SSPS paper), for fewer epochs.

The settings of SSPS come from a trial on held-out readers; nothing was chosen on the trials that report.

Interrupted, it resumes with the same command. The record of a finished seed is written to
docs/results/ssps-gain/CORPUS-FAMILY-SEED.json and not run again, so that seeds may come from several sittings
and machines; docs/results/ssps-gain.{md,json} has the tables of all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from common import corpora, parser_of
from first_light import CHANNELS, HELD_EVERY, source, split
from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.files import read_json, write_json
from idemvox.recipe import Recipe
from idemvox.reports.results import machine, write_results
from idemvox.studies.jobs import Job, TestSet, run_jobs
from idemvox.training.state.provenance import known
from idemvox.verification.bootstrap import percentile_interval, resampled_eers
from idemvox.verification.channel import channel_information
from idemvox.verification.drawing import make_trials
from idemvox.verification.embed import load_embeddings
from idemvox.verification.report import library_versions
from idemvox.verification.scoring import Scorer
from idemvox.verification.trials import load_trials

SPEEDS = (0.9, 1.0, 1.1)
DRAWS = 500
ACCURACIES = {"speaker_accuracy": "right %", "recording_accuracy": "same recording %"}
SECONDS = 4.2  # of an utterance at most: as in the bundle of benchmarks/gpu_bundle.py


@dataclass(frozen=True)
class Setting:
    """A corpus to learn from, and for how long.

    Attributes:
        spec: the simulated channels.
        dense: whether the voices of gcompris are in it.
        base_epochs, more_epochs: of the base, and of each system after it.
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
    "training.batch=128",
    "training.precision=bf16",
    "training.lr_decay=0.5",
    "training.save_minutes=60",
)
SSPS = (
    "positives.name=ssps",
    "positives.refresh=true",
    "positives.queue=1000000",
    "positives.seconds=4",
)
AGGLOMERATED = (*SSPS, "positives.clusterer=agglomerative", "positives.neighbours=0", "positives.whiten=0.7")


@dataclass(frozen=True)
class Data:
    """What :func:`build` made.

    Attributes:
        train: pack to learn from.
        utterances, recordings: how many it has.
        tests: what is scored.
    """

    train: Path
    utterances: int
    recordings: int
    tests: tuple[TestSet, ...]


Keys = Callable[[Setting, Data], tuple[str, ...]]
"""What a system's sampler is told."""


def published(share: float | None = None, neighbours: int = 1) -> Keys:
    """Return the sampler of the paper; ``share`` is K as a share of the utterances."""

    def keys(setting: Setting, data: Data) -> tuple[str, ...]:
        k = round((setting.clusters if share is None else share) * data.utterances)
        return (
            *SSPS,
            f"positives.clusters={k}",
            f"positives.neighbours={neighbours}",
            "positives.whiten=0.5",
        )

    return keys


def agglomerated(setting: Setting, data: Data) -> tuple[str, ...]:
    """Return the keys of SSPS with clusters by agglomeration."""
    return (*AGGLOMERATED, f"positives.clusters={round(setting.groups * data.utterances)}")


def recordings_known(setting: Setting, data: Data) -> tuple[str, ...]:
    """Return the keys of SSPS with clusters of recordings."""
    k = round(setting.recording_groups * data.recordings)
    return (
        *AGGLOMERATED,
        "positives.unit=recording",
        "positives.nearest_recordings=6",
        f"positives.clusters={k}",
    )


def fixed(*keys: str) -> Keys:
    """Return these keys, whatever the corpus."""
    return lambda setting, data: keys


WAYS: dict[str, Keys] = {
    "": fixed(),
    "-ssps": published(),
    "-ssps-agglomerative": agglomerated,
    "-ssps-recordings": recordings_known,
    "-supervised": fixed("positives.name=supervised"),
}
GRID: dict[str, Keys] = {
    f"-ssps K={share:g}N M={neighbours}": published(share, neighbours)
    for share in (0.05, 0.2, 0.8)
    for neighbours in (0, 1, 2)
}


@dataclass(frozen=True)
class Family:
    """A base, and the systems that continue it.

    Attributes:
        base: the framework and its settings.
        ways: what is added to the base's name -> keys of its sampler; the first is the control.
        start: name of the family whose base it continues, if not its own.
        share: of the setting's further epochs.
    """

    base: tuple[str, ...]
    ways: Mapping[str, Keys] = field(default_factory=lambda: WAYS)
    start: str | None = None
    share: float = 1.0


SIMCLR = ("framework.seconds=1.5",)
DINO = (
    "framework.name=dino",
    "framework.global_seconds=1.5",
    "framework.local_seconds=1",
    "framework.local_crops=2",
    "framework.hidden=512",
    "framework.bottleneck=128",
    "framework.outputs=1024",
    "framework.momentum=0.99",
)
"""DINO with crops and a head for a small corpus."""
FAMILIES = {
    "simclr": Family(SIMCLR),
    "cel": Family(("framework.name=cel", "framework.seconds=1.5")),
    "dino": Family((*DINO, "training.clip=3")),
    "simclr-unaugmented": Family((*SIMCLR, "augment.policy=none")),
    "grid": Family(SIMCLR, {"": fixed(), **GRID}, "simclr", 0.3),
}


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
    name: str,
    data: Data,
    folder: Path,
    seeds: Sequence[int],
    overrides: tuple[str, ...],
    scale: float = 1.0,
    family: str = "simclr",
) -> list[Job]:
    """Return the runs of a family on a corpus, the most urgent first.

    Args:
        name: of the setting.
        data: made by :func:`build`.
        folder: of the study; ``NAME/seed-S/FAMILY/SYSTEM`` holds each run.
        seeds: a whole study each.
        overrides: recipe keys of every run.
        scale: of the numbers of epochs.
        family: the base and its systems.
    """
    setting, its = SETTINGS[name], FAMILIES[family]
    stem = its.start or family
    base = max(1, round(scale * setting.base_epochs))
    more = max(1, round(scale * its.share * setting.more_epochs))
    fall = max(1, base // 5)  # the rate is halved so often: by 16 at the end of the base
    half = max(1, more // 2)  # 4e-4 for one half and 2e-4 for the other, whatever epochs came before
    lr = 4e-4 * 2 ** (base // half)
    made = []
    for seed in seeds:
        place = folder / name / f"seed-{seed}"
        start = place / stem / f"{stem}-base"
        common = (f"seed={seed}", f"data.manifest={data.train}", *BASE, *its.base, *overrides)
        rate = (f"training.lr_every={fall}", f"training.epochs={base}")
        made.append(Job(start, Recipe().override([f"name={start.name}", *common, *rate]), ()))
        rate = (f"training.lr={lr}", f"training.lr_every={half}", f"training.epochs={more}")
        for way, keys in its.ways.items():
            named = (f"name={stem}{way}", *common, *rate, f"start_from={start}", *keys(setting, data))
            made.append(Job(place / family / f"{stem}{way}", Recipe().override(named), data.tests))
    return made


def record(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what is kept of the runs of a seed that are done."""
    systems = {job.recipe.name: record_of(job) for job in jobs if job.done and job.tests}
    return {"machine": machine(), "versions": library_versions(), "systems": systems}


def record_of(job: Job) -> dict[str, Any]:
    """Return the scores of a run, and its EERs with speakers drawn again; kept beside the run.

    The draws are the same for every system and seed, so that differences can be taken draw by draw.
    """
    file = job.folder / "record.json"
    if file.is_file():
        return dict(read_json(file))
    told = read_json(job.folder / "evaluation.json")
    found = {"known": list(known(job.recipe)), "tests": dict[str, Any]()}
    found |= {key: told["numbers"][key] for key in ACCURACIES if key in told["numbers"]}
    for test in job.tests:
        trials = load_trials(test.trials)
        embeddings = load_embeddings(job.folder / f"{test.name}.npz")
        scores = Scorer("cosine").scores(embeddings, trials)
        utterances = [u for u in load_manifest(test.manifest) if u.id in embeddings.rows]
        speakers = trials.speakers({u.id: str(u.speaker) for u in utterances})
        draws = resampled_eers([scores], trials.labels, *speakers, DRAWS)[:, 0]
        numbers = {key: told["trials"][test.name][key] for key in ("eer", "mindcf_001", "mindcf_005")}
        channel = asdict(channel_information(embeddings, utterances))
        found["tests"][test.name] = {**numbers, "channel": channel, "draws": draws.round(4).tolist()}
    write_json(file, found)
    return found


def rows_of(records: Sequence[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    """Return the rows of a family on a corpus: each system on each list, and its change from the control."""
    its = FAMILIES[family]
    control, *others = (f"{its.start or family}{way}" for way in its.ways)
    rows = []
    tests = dict.fromkeys(t for r in records for s in r["systems"].values() for t in s["tests"])
    for test in tests:
        for system in (control, *others):
            both = [
                (r["systems"][system], r["systems"][control])
                for r in records
                if {system, control} <= r["systems"].keys()
            ]
            if not both:
                continue
            row: dict[str, Any] = {"system": system, "trials": test}
            row["eer"] = [its["tests"][test]["eer"] for its, _ in both]
            row["change"] = "" if system == control else change(both, test)
            channel = [its["tests"][test]["channel"] for its, _ in both]
            row["probe %"] = [round(100 * one["probe"], 1) for one in channel]
            row["same, other recording, other speaker"] = ", ".join(
                f"{np.mean([one[key] for one in channel]):.3f}"
                for key in ("same_recording", "other_recording", "other_speaker")
            )
            for key, name in ACCURACIES.items():
                if key in both[0][0]:
                    row[name] = [round(100 * its[key], 1) for its, _ in both]
            row["known"] = ", ".join(both[0][0]["known"])
            rows.append(row)
    return rows


def change(both: Sequence[tuple[dict[str, Any], dict[str, Any]]], test: str) -> str:
    """Return by how much the seeds' mean EER differs, in per cent of the control's, with its interval."""
    its, control = (np.mean([pair[n]["tests"][test]["eer"] for pair in both]) for n in (0, 1))
    drawn = [np.mean([pair[n]["tests"][test]["draws"] for pair in both], axis=0) for n in (0, 1)]
    interval = percentile_interval(drawn[0] / drawn[1] - 1)
    return f"{100 * (its / control - 1):+.1f} % ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def from_corpora(out: Path) -> tuple[Manifest, Manifest]:
    """Return the train and dev splits of the corpora."""
    train, dev = (split(corpora(), out, name) for name in ("train", "dev"))
    return train, dev.select(lambda u: source(u) == "speechocean762")


def from_bundle(folder: Path) -> tuple[Manifest, Manifest]:
    """Return the same of an unpacked bundle."""
    whole = load_manifest(folder / "speech.csv")
    train = whole.select(lambda u: Path(u.id).parts[0] == "train")
    return train, whole.select(lambda u: Path(u.id).parts[0] == "dev")


NOTES = """\
Every system continues the base of its family and seed for the same number of epochs. `change` compares the
seeds' mean EER with that of the first system of the family. Its 95 % interval comes from resampling speakers,
the same ones for both systems. `right %` is the share of pseudo-positives from the anchor's speaker, and
`same recording %` the share from the anchor's recording. `probe %` is how often a linear probe finds the
recording of an utterance among those of its speaker (chance: 25 %). Beside it are the mean cosines of two
utterances of the same recording, of different recordings of a speaker, and of different speakers. `known` is
what a system was given besides the audio. `dev` is 50 speakers of speechocean762 in 4 *simulated* recordings
each; nothing was chosen on them. `held` is 25 held-out training readers; the settings were chosen on them.

Finished so far (corpus, family, seeds): {finished}.
"""


def write(results: Path) -> None:
    """Write the tables of all records."""
    rows, finished = [], []
    for name, family in product(SETTINGS, FAMILIES):
        files = sorted((results / "ssps-gain").glob(f"{name}-{family}-[0-9]*.json"))
        if files:
            rows += rows_of([read_json(file) for file in files], family)
            seeds = " ".join(file.stem.rpartition("-")[2] for file in files)
            finished.append(f"{name} {family} {seeds}")
    if rows:
        command = "python benchmarks/ssps_gain.py"
        notes = NOTES.format(finished="; ".join(finished))
        write_results(results, "ssps-gain", "What SSPS gains", command, rows, notes)


def main() -> None:
    """Run it on this machine."""
    parser = parser_of(__doc__)
    parser.add_argument("--corpus", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--family", nargs="+", choices=list(FAMILIES), default=["simclr"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/ssps-gain"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("overrides", nargs="*", help="recipe KEY=VALUE for every run")
    args = parser.parse_args()
    out, results = args.out.resolve(), Path(__file__).resolve().parents[1] / "docs" / "results"
    banks = (f"augment.noise={corpora() / 'noise'}", f"augment.music={corpora() / 'music'}")
    kept = results / "ssps-gain"
    for name, family in product(args.corpus, args.family):
        missing = [s for s in args.seeds if not (kept / f"{name}-{family}-{s}.json").is_file()]
        if not missing:
            continue
        data = build(out / "data" / name, name, *from_corpora(out), os.cpu_count() or 1)
        every = jobs(name, data, out, missing, (*banks, *args.overrides), family=family)
        run_jobs(every, args.jobs)
        kept.mkdir(parents=True, exist_ok=True)
        for seed in missing:
            mine = [job for job in every if job.recipe.seed == seed]
            write_json(kept / f"{name}-{family}-{seed}.json", record(mine))
    write(results)


if __name__ == "__main__":
    main()
