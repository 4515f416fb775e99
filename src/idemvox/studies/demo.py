"""The demo: real voices, simulated recordings, and the SSPS study on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.model import load_model
from idemvox.processes import command_line
from idemvox.reports.results import write_results
from idemvox.studies.demo_voices import REAL, find_voices, hold_out, split_voices
from idemvox.studies.jobs import TestSet
from idemvox.studies.ssps import Plan, Study
from idemvox.verification.drawing import make_trials
from idemvox.verification.trials import load_trials

__all__ = [
    "BASE",
    "FULL",
    "SMALL",
    "Size",
    "base_voices",
    "findings",
    "plan",
    "results_table",
    "run_demo",
]


@dataclass(frozen=True)
class Size:
    """How much data the demo makes, and how long it trains.

    Attributes:
        utterances: most utterances of each voice, at each speed.
        recordings: simulated recordings of each training voice.
        base_epochs: epochs of SimCLR.
        more_epochs: further epochs of each of the runs that continue it.
        encoder: recipe keys of the encoder.
        clusters: K of SSPS as published, as a share of the training utterances.
        groups: K of SSPS with recordings known, as a share of the recordings.
        batch: utterances per step.
    """

    utterances: int = 60
    recordings: int = 6
    base_epochs: int = 60
    more_epochs: int = 6
    encoder: tuple[str, ...] = ("encoder.name=ecapa_tdnn", "encoder.channels=128", "encoder.mfa_channels=384")
    clusters: float = 0.4
    groups: float = 0.25
    batch: int = 64


SMALL = Size()
FULL = Size(recordings=10, more_epochs=20)
BASE = Path(__file__).with_name("base")
"""Model folder of SimCLR trained on the demo's voices, from which the demo continues."""
FEWEST = 2  # voices that the demo scores


def run_demo(
    out: Path,
    corpus: Path | None,
    *,
    size: Size = SMALL,
    seeds: int = 1,
    synthetic: bool = False,
    from_scratch: bool = False,
    console: Console,
    progress: bool = True,
) -> None:
    """Run the study on the demo's voices or a labelled corpus; print a table and draw a picture.

    Args:
        out: folder for all output; a second call resumes.
        corpus: labelled manifest; its own recordings are used if most speakers have several.
        size: amount of data and training: :data:`SMALL` or :data:`FULL`.
        seeds: number of repetitions.
        synthetic: use synthetic voices even if real ones are available.
        from_scratch: train the base, instead of continuing the one in :data:`BASE`; another corpus always
            trains its own.
        console: console to print to.
        progress: show progress bars.
    """
    out.mkdir(parents=True, exist_ok=True)
    source, what = find_voices(corpus, synthetic, console, progress)
    base = None if from_scratch or what != REAL else BASE
    held = hold_out(source) if base is None else set(source.speakers) - set(base_voices())
    if len(held) < FEWEST:
        raise CorpusError(
            f"only {len(held)} of the voices that were found are new to the demo's base: "
            "run `idemvox demo --from-scratch`, which trains its own"
        )
    train, test, real = split_voices(
        source,
        held,
        out,
        simulate=corpus is None,
        utterances=size.utterances,
        recordings=size.recordings,
        progress=progress,
    )
    kind = "real" if real else "simulated"
    tests = [
        TestSet.make(make_trials(test, "across", name="across recordings"), test.root / "manifest.csv", out),
        TestSet.make(make_trials(test, "within", name="within a recording"), test.root / "manifest.csv", out),
    ]
    console.print(
        f"training on {len(train):,} utterances in {kind} recordings of {len(train.speakers)} voices "
        f"(only the supervised row sees labels); scoring {len(test.speakers)} other voices"
    )
    if base is not None:
        console.print(
            "all systems continue a SimCLR model that comes with idemvox, trained on most of these voices "
            f"for {size.base_epochs} epochs (--from-scratch trains your own)"
        )
    study = Study(out, train.root / "manifest.csv", tests, plan(size, train, tuple(range(seeds)), base))
    study.run(progress)
    console.print(results_table(study.rows(), f"lower is better; recordings are {kind}"))
    _save(study, out, what, kind, console)


def plan(size: Size, train: Manifest, seeds: tuple[int, ...], base: Path | None) -> Plan:
    """Return the training runs of the demo; ``base`` is a model folder to start from, if there is one."""
    recordings = len({(u.speaker, u.recording) for u in train})
    ssps = (
        "positives.queue=1000000",  # every utterance
        "positives.seconds=4",
        "positives.refresh=true",
    )
    fall, half = max(1, size.base_epochs // 5), max(1, size.more_epochs // 2)
    behind = 0 if base is not None else size.base_epochs // half  # how often the rate has been halved
    return Plan(
        size.base_epochs,
        size.more_epochs,
        seeds,
        base=(
            *size.encoder,
            "framework.seconds=1.5",
            f"training.batch={size.batch}",
            "training.precision=bf16",
            "training.workers=0",
            "training.lr_decay=0.5",
            f"training.lr_every={fall}",
        ),
        more=(f"training.lr={1e-4 * 2**behind}", f"training.lr_every={half}"),
        ssps=(
            *ssps,
            f"positives.clusters={max(2, round(size.clusters * len(train)))}",
            "positives.whiten=0.5",
        ),
        recordings=(
            *ssps,
            "positives.unit=recording",
            "positives.nearest_recordings=6",
            "positives.clusterer=agglomerative",
            "positives.neighbours=0",
            "positives.whiten=0.7",
            f"positives.clusters={max(2, round(size.groups * recordings))}",
        ),
        start=base,
    )


def base_voices() -> list[str]:
    """Return the voices that the demo's base was trained on, or its settings chosen on."""
    told = load_model(BASE).provenance
    return [*told["voices"], *told["chosen on"]]


def results_table(rows: Sequence[Mapping[str, Any]], title: str = "lower is better") -> Table:
    """Return a table of results: systems by test sets, EER and minDCF at p = 0.01, means over seeds."""
    table = Table(title=title)
    table.add_column("system", no_wrap=True)
    tests = dict.fromkeys(row["trials"] for row in rows)
    for test in tests:
        table.add_column(f"{test}\nEER %", justify="right")
        table.add_column("minDCF\np=0.01", justify="right")
    cells = {(row["system"], row["trials"]): row for row in rows}
    for system in dict.fromkeys(row["system"] for row in rows):
        text = [
            f"{scale * np.mean(cells[system, test][key]):.{digits}f}"
            for test in tests
            for key, scale, digits in (("eer", 100, 2), ("mindcf_001", 1, 3))
        ]
        table.add_row(system, *text)
    return table


def _save(study: Study, out: Path, what: str, kind: str, console: Console) -> None:
    rows = study.rows()
    write_results(out, "results", "Demo", command_line(), rows, f"On {what}; recordings are {kind}.")
    console.print(f"table and numbers: {out / 'results.md'}, {out / 'results.json'}")
    for sentence in findings(rows, study.tests[0].name):
        console.print(sentence)
    try:
        from idemvox.reports.picture import tsne_picture

        picture = tsne_picture(study.panels(study.tests[0], study.plan.seeds[0]), out / "voices.png")
        console.print(f"held-out voices with SimCLR and with SSPS (t-SNE): {picture}")
    except IdemvoxError as error:
        console.print(f"no picture: {error}")
    model = study.path(study.plan.seeds[0], "simclr-ssps-recordings")
    pair = load_trials(study.tests[0].trials)
    where = load_manifest(study.tests[0].manifest)
    first = int(np.argmax(pair.labels))  # a target
    a, b = (where.path(where.by_id[pair.ids[side[first]]]) for side in (pair.enrol_index, pair.test_index))
    console.print("try it, with two recordings of one held-out voice:")
    console.print(f"idemvox verify '{a}' '{b}' --model {model}", soft_wrap=True, highlight=False)


def findings(rows: Sequence[Mapping[str, Any]], trials: str) -> list[str]:
    """Return in words what SSPS changed on these trials, and how often its pseudo-positives were right."""
    found = []
    for row in rows:
        if row["trials"] != trials or row["system"] not in SSPS_NAMES:
            continue
        text = SSPS_NAMES[row["system"]]
        if "EER against simclr" in row:
            text += f" changes the EER {trials} by {row['EER against simclr']}, compared with more SimCLR"
        if "speaker_accuracy" in row:
            right, same = (100 * float(np.mean(row[key])) for key in ACCURACIES)
            text += f"; {right:.0f} % of its pseudo-positives are of the right speaker"
            text += f", {same:.0f} % of the same recording"
        found.append(text)
    return found


ACCURACIES = ("speaker_accuracy", "recording_accuracy")
SSPS_NAMES = {
    "simclr-ssps": "SSPS as published",
    "simclr-ssps-recordings": "SSPS with recordings known",
}
