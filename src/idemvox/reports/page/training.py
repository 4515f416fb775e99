"""The section of the page on training: the curves of the runs, number by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from html import escape

import numpy as np

from idemvox.reports.charts import Line, line_chart
from idemvox.reports.page.html import key, table
from idemvox.reports.page.places import Run
from idemvox.verification.gauges import Gauges

__all__ = ["training"]

_HIDDEN = ("epoch", "step", "time")
_SPEED = ("lr", "utterances_per_second", "waiting_for_audio")
_GAUGES = tuple(f"gauge_{field.name}" for field in fields(Gauges))
_POSITIVES = ("coverage", "speaker_accuracy", "recording_accuracy", "mutual_neighbours", "queue_filled")
_MEANING = {
    "loss": "mean of the epoch",
    "lr": "learning rate",
    "waiting_for_audio": "share of the time; 0 is best",
    "gauge_alignment": "distance of two crops of an utterance; lower is better",
    "gauge_uniformity": "how unevenly utterances spread; lower is better",
    "gauge_effective_rank": "directions in use; near 1 after a collapse",
    "gauge_pseudo_eer": "crops of one utterance against crops of others; the channel helps",
    "gauge_channel_pseudo_eer": "the same through simulated channels",
    "gauge_channel_probe": "how often a linear probe tells the channel",
    "gauge_channel_chance": "what guessing the channel would reach",
    "gauge_recording_pseudo_eer": "within a recording against other recordings",
    "coverage": "share of anchors with a pseudo-positive",
    "speaker_accuracy": "share of pseudo-positives of the anchor's speaker; needs labels",
    "recording_accuracy": "share of pseudo-positives of the anchor's own recording; needs labels",
    "cluster_purity": "share of utterances of their cluster's main speaker; needs labels",
    "cluster_speaker_pairs": "share of pairs in clusters of one speaker; needs labels",
    "cluster_recording_pairs": "share of pairs in clusters of one recording; needs labels",
}


def training(runs: Sequence[Run]) -> str:
    """Return the curves of runs, a chart for each number that changes, and all numbers as a table."""
    parts = [key([run.name for run in runs])]
    for title, names in _groups(runs):
        charts = "".join(_chart(name, runs) for name in names)
        if charts:
            parts.append(f'<h3>{title}</h3><div class="charts small">{charts}</div>')
    heading = ["run", "number", "first epoch", "last epoch", "lowest", "highest"]
    listed = table("curves", "First, last and extreme numbers of the runs", heading, _rows(runs))
    return "".join(parts) + f"<details><summary>All numbers as a table</summary>{listed}</details>"


def _groups(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return the columns of all runs under the section's headings, without mere counters."""
    every = [
        name for name in dict.fromkeys(name for run in runs for name in run.curves) if name not in _HIDDEN
    ]
    gauges = [name for name in every if name in _GAUGES]
    speed = [name for name in every if name in _SPEED]
    positives = [name for name in every if name in _POSITIVES or name.startswith("cluster")]
    losses = [name for name in every if name not in (*gauges, *positives, *speed)]
    return [
        ("Loss", sorted(losses, key=lambda name: name != "loss")),
        ("Gauges, measured without labels", gauges),
        ("Clusters and pseudo-positives", positives),
        ("Speed", speed),
    ]


def _chart(name: str, runs: Sequence[Run]) -> str:
    """Return the chart of one number, or nothing if it never changes."""
    lines = [
        Line(run.name, style, run.curves["epoch"], run.curves[name])
        for style, run in enumerate(runs)
        if name in run.curves
    ]
    if not any(line.changes for line in lines):
        return ""
    words = f": {_MEANING[name]}" if name in _MEANING else ""
    chart = line_chart(f"curve-{name}", _words(name), lines)
    return f"<figure><figcaption><b>{escape(_words(name))}</b>{words}</figcaption>{chart}</figure>"


def _rows(runs: Sequence[Run]) -> Iterator[list[str]]:
    """Yield the row of each number of each run."""
    for _, names in _groups(runs):
        for name in names:
            for run in runs:
                values = run.curves.get(name, np.empty(0))
                values = values[np.isfinite(values)]
                if len(values):
                    ends = (values[0], values[-1], values.min(), values.max())
                    yield [run.name, _words(name), *(f"{value:.4g}" for value in ends)]


def _words(name: str) -> str:
    """Return a column's name as a reader would say it."""
    return name.removeprefix("gauge_").replace("_", " ").replace("eer", "EER")
