"""The demo: real voices, simulated recordings, and the SSPS study on them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from idemvox.audio.channel import ChannelSpec
from idemvox.corpus.manifest import Manifest, load_manifest, save_manifest
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.corpus.simulated.voices import synthetic_voices
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.processes import command_line
from idemvox.reports.results import write_results
from idemvox.studies.debian import Fetched, fetch_voices
from idemvox.studies.jobs import TestSet
from idemvox.studies.ssps import Plan, Study
from idemvox.verification.trials import load_trials, make_trials

__all__ = ["FULL", "SMALL", "Size", "cache_folder", "results_table", "run_demo"]


@dataclass(frozen=True)
class Size:
    """How much data the demo makes, and how long it trains.

    Attributes:
        utterances: most utterances of each voice, at each speed.
        recordings: simulated recordings of each training voice.
        base_epochs: epochs of SimCLR.
        more_epochs: further epochs of each of the three runs that continue it.
        channels: widths of the Fast ResNet-34.
        clusters: K of SSPS, as a share of the training utterances.
        batch: utterances per step.
    """

    utterances: int
    recordings: int
    base_epochs: int
    more_epochs: int
    channels: tuple[int, int, int, int]
    clusters: float
    batch: int = 32


SMALL = Size(22, 6, 8, 3, (8, 16, 32, 64), 0.4)
FULL = Size(60, 10, 40, 15, (16, 32, 64, 128), 0.4)
SPEEDS = (0.84, 1.0, 1.19)  # speed-perturbed copies count as other voices, as in Kaldi's recipes
STRENGTH = "mild"


def cache_folder() -> Path:
    """Return the folder that keeps downloaded voices between demos: ``$XDG_CACHE_HOME/idemvox``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "idemvox"


def run_demo(
    out: Path,
    corpus: Path | None,
    *,
    size: Size = SMALL,
    seeds: int = 1,
    synthetic: bool = False,
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
        console: console to print to.
        progress: show progress bars.
    """
    out.mkdir(parents=True, exist_ok=True)
    source, what = _voices(corpus, synthetic, console, progress)
    train, test, real = _split(source, out, size, corpus is None, progress)
    kind = "real" if real else "simulated"
    tests = [
        TestSet.make(
            make_trials(test, "across", name=f"across {kind} recordings"), test.root / "manifest.csv", out
        ),
        TestSet.make(
            make_trials(test, "within", name=f"within a {kind} recording"), test.root / "manifest.csv", out
        ),
    ]
    clusters = max(2, round(size.clusters * len(train)))
    plan = Plan(
        size.base_epochs,
        size.more_epochs,
        tuple(range(seeds)),
        base=(
            f"encoder.channels={list(size.channels)}",
            "framework.seconds=1.2",
            f"training.batch={size.batch}",
            "training.precision=bf16",
            "training.workers=0",
        ),
        more=("training.lr=3e-4",),
        ssps=(
            f"positives.clusters={clusters}",
            f"positives.queue={len(train)}",
            "positives.seconds=4",
            "positives.refresh=true",
        ),
    )
    console.print(
        f"training on {len(train):,} utterances in {kind} recordings of {len(train.speakers)} voices "
        f"(only the supervised row sees labels); scoring {len(test.speakers)} other voices"
    )
    study = Study(out, train.root / "manifest.csv", tests, plan)
    study.run(progress)
    console.print(results_table(study.rows()))
    _save(study, out, what, kind, console)


def _voices(corpus: Path | None, synthetic: bool, console: Console, progress: bool) -> tuple[Manifest, str]:
    """Return labelled utterances and a description of them."""
    if corpus is not None:
        manifest = load_manifest(corpus)
        if len(manifest.speakers) < 4:
            raise CorpusError(
                f"{corpus} names {len(manifest.speakers)} speakers; the study needs labels of at least 4 "
                "(for scoring, diagnostics and the supervised row)"
            )
        return manifest, f"the corpus {corpus.name}"
    if not synthetic:
        fetched: Fetched = fetch_voices(cache_folder(), progress)
        for note in fetched.notes:
            console.print(f"note: {note}")
        if fetched.manifest is not None:
            return fetched.manifest, "real voices from Debian packages, in simulated recordings"
    console.print(
        "[bold yellow]THESE VOICES ARE SYNTHETIC[/]: no package client provided real ones, so a "
        "source-filter synthesiser made some. The numbers below show that the software works; they say "
        "nothing about speech."
    )
    voices = synthetic_voices(cache_folder() / "synthetic", 40, 28, 0, os.cpu_count() or 1)
    return voices, "SYNTHETIC voices (source-filter synthesiser), in simulated recordings"


def _split(
    source: Manifest, out: Path, size: Size, speeds: bool, progress: bool
) -> tuple[Manifest, Manifest, bool]:
    """Hold out a fifth of the speakers; return training part, test part, and whether recordings are real."""
    rng = np.random.default_rng(0)
    names = [str(n) for n in rng.permutation(source.speakers)]
    held = set(names[: max(2, len(names) // 5)])
    several = [len({u.recording for u in source if u.speaker == s and u.recording}) > 1 for s in names]
    parts = (
        ("train", source.select(lambda u: u.speaker is not None and u.speaker not in held)),
        ("test", source.select(lambda u: u.speaker in held)),
    )
    if sum(several) * 2 > len(names):
        for name, part in parts:
            save_manifest(part, out / name / "manifest.csv")
        return (
            load_manifest(out / "train" / "manifest.csv"),
            load_manifest(out / "test" / "manifest.csv"),
            True,
        )
    simulated = [
        simulate_recordings(
            _cap(part, size.utterances) if speeds else part,
            out / name,
            size.recordings if name == "train" else 4,
            ChannelSpec.preset(STRENGTH),
            seed,
            seconds=(1.5, 6.0),
            fewest=3,
            speeds=SPEEDS if speeds else (1.0,),
            workers=os.cpu_count() or 1,
            progress=progress,
        )
        for seed, (name, part) in enumerate(parts)
    ]
    return simulated[0], simulated[1], False


def _cap(manifest: Manifest, most: int) -> Manifest:
    """Keep the first utterances of each speaker."""
    seen: dict[str | None, int] = {}

    def keep(speaker: str | None) -> bool:
        seen[speaker] = seen.get(speaker, 0) + 1
        return seen[speaker] <= most

    return manifest.select(lambda u: keep(u.speaker))


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of results: systems by test sets, EER and minDCF, means over seeds."""
    table = Table(title="equal error rate (EER, %) and minDCF: lower is better")
    table.add_column("system", no_wrap=True)
    tests = dict.fromkeys(row["trials"] for row in rows)
    for test in tests:
        table.add_column(f"{test}\nEER %", justify="right")
        table.add_column("minDCF\np=0.01", justify="right")
        table.add_column("minDCF\np=0.05", justify="right")
    cells = {(row["system"], row["trials"]): row for row in rows}
    for system in dict.fromkeys(row["system"] for row in rows):
        text = [
            f"{scale * np.mean(cells[system, test][key]):.{digits}f}"
            for test in tests
            for key, scale, digits in (("eer", 100, 2), ("mindcf_001", 1, 3), ("mindcf_005", 1, 3))
        ]
        table.add_row(system, *text)
    return table


def _save(study: Study, out: Path, what: str, kind: str, console: Console) -> None:
    rows = study.rows()
    write_results(out, "results", "Demo", command_line(), rows, f"On {what}; recordings are {kind}.")
    console.print(f"table and numbers: {out / 'results.md'}, {out / 'results.json'}")
    main = study.tests[0].name
    ssps = next(r for r in rows if r["system"] == "simclr-ssps" and r["trials"] == main)
    if "EER against simclr" in ssps:
        console.print(f"SSPS changes the EER {main} by {ssps['EER against simclr']}, against more SimCLR")
    if "speaker_accuracy" in ssps:
        console.print(
            f"pseudo-positives: {100 * np.mean(ssps['coverage']):.0f} % of positives replaced, "
            f"{100 * np.mean(ssps['speaker_accuracy']):.0f} % of them by the right speaker "
            "(labels used for this line only)"
        )
    try:
        from idemvox.reports.picture import tsne_picture

        picture = tsne_picture(study.panels(study.tests[0], study.plan.seeds[0]), out / "voices.png")
        console.print(f"held-out voices before and after SSPS (t-SNE): {picture}")
    except IdemvoxError as error:
        console.print(f"no picture: {error}")
    model = study.path(study.plan.seeds[0], "simclr-ssps")
    pair = load_trials(study.tests[0].trials)
    where = load_manifest(study.tests[0].manifest)
    first = int(np.argmax(pair.labels))  # a target
    a, b = (where.path(where.by_id[pair.ids[side[first]]]) for side in (pair.enrol_index, pair.test_index))
    console.print("try it, with two recordings of one held-out voice:")
    console.print(f"idemvox verify '{a}' '{b}' --model {model}", soft_wrap=True, highlight=False)
