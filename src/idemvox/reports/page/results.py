"""The sections of the page on trial lists, and the one on how everything was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from idemvox.corpus.manifest import Manifest
from idemvox.reports.charts import det_chart, histogram_chart
from idemvox.reports.conditions import conditions_of
from idemvox.reports.page.clips import Clips
from idemvox.reports.page.html import Html, key, ranged, table
from idemvox.reports.page.places import System
from idemvox.reports.page.worst import worst_errors
from idemvox.verification.comparison import compare
from idemvox.verification.metrics import det_curve_of, eer_of

__all__ = ["conventions", "trial_list"]

_RATES = ("EER", "EER interpolated", "EER hull")
_COUNTS = ("targets", "impostors")
_LAST = ("EER interpolated", "EER hull", "EER threshold")


def trial_list(
    name: str,
    systems: Sequence[System],
    source: Manifest | Path | None,
    clips: Clips | None,
) -> str:
    """Return the content of the section of one trial list.

    Args:
        name: unique in the page.
        systems: their scores of it; all are compared with the first.
        source: has the utterances of the trials, or is the folder that their paths start from.
        clips: makes the audio of players; ``None`` for none.
    """
    counts = (f"{systems[0].metrics[kind]['value']:,.0f} {kind}" for kind in _COUNTS)
    sha = systems[0].certificate.values["trials"]["sha256"]
    parts = [
        f"<p>{', '.join(counts)}. SHA-256 of the trials: <code>{sha}</code></p>",
        _results(systems),
        _differences(systems),
        _charts(name, systems),
    ]
    if isinstance(source, Manifest):
        parts.append(_conditions(systems, source))
    parts += [worst_errors(system, source, clips, n == 0) for n, system in enumerate(systems)]
    return "".join(parts)


def _charts(name: str, systems: Sequence[System]) -> str:
    """Return the DET curves of all systems in one chart, and the scores of each in one of its own."""
    curves = [(s.name, det_curve_of(s.ordered), eer_of(s.ordered)) for s in systems]
    det = det_chart(f"{name}-det", curves)
    words = f"{key([s.name for s in systems])}Dots mark the EERs. Lower left is better."
    parts = [
        '<div class="charts"><div><h3>DET curves</h3>'
        f"<figure>{det}<figcaption>{words}</figcaption></figure></div><div><h3>Scores</h3>",
    ]
    for number, system in enumerate(systems):
        rows = system.certificate.rows
        chart = histogram_chart(f"{name}-scores-{number}", rows.scores, rows.labels, system.threshold)
        parts.append(
            f"<figure>{chart}<figcaption>{escape(system.name)}:"
            " <b class=targets>targets</b> and <b class=impostors>impostors</b>, each of area 1;"
            " the threshold is at the EER.</figcaption></figure>"
        )
    return "".join(parts) + "</div></div>"


def _results(systems: Sequence[System]) -> str:
    every = dict.fromkeys(name for s in systems for name in s.metrics)
    names = [name for name in every if name not in (*_COUNTS, *_LAST)] + list(_LAST)
    heading = ["system", *(f"{name} %" if name in _RATES else name for name in names), "scoring"]
    rows = [
        [s.name, *(_metric(name, s.metrics.get(name)) for name in names), s.certificate.values["scoring"]]
        for s in systems
    ]
    note = (
        "In brackets: 95 % interval, speakers resampled."
        if systems[0].certificate.values["bootstrap"]
        else ""
    )
    return "<h3>Results</h3>" + table("results", f"Results on {systems[0].trials}", heading, rows, note)


def _metric(name: str, values: Mapping[str, float] | None) -> Html:
    """Return a metric with its interval, if it has one."""
    if values is None:
        return Html("-")
    scale, digits = (100, 2) if name in _RATES else (1, 4)
    text = f"{scale * values['value']:.{digits}f}"
    if "low" in values:
        text += f" ({scale * values['low']:.{digits}f} to {scale * values['high']:.{digits}f})"
    return ranged(text)


def _differences(systems: Sequence[System]) -> str:
    """Return the table of differences to the first system, on the same draws of speakers."""
    if len(systems) < 2:
        return ""
    first, rows, base = systems[0], [], systems[0].certificate.rows
    for system in systems[1:]:
        scores = system.certificate.rows.scores
        found = compare(base.scores, scores, base.labels, *(base.sides or ()))
        changed = found.changed
        sides = [] if changed is None else [f"{changed.only_b:,}", f"{changed.only_a:,}", f"{changed.p:.2g}"]
        texts = [*(d.absolute_text for d in found.differences), found.differences[0].relative_text]
        rows.append([system.name, *map(ranged, texts), *sides])
    heading = ["system", "EER", "minDCF p=0.01", "minDCF p=0.05", "EER, relative", "only it right"]
    heading += [f"only {first.name} right", "p"]
    note = (
        "Below 0 is better. Intervals: 95 %, the same draws of speakers for both. “Right”: each at the"
        " threshold of its own EER. p is of an exact binomial test of these two counts; it is too small,"
        " because trials share speakers."
    )
    return f"<h3>Differences to {escape(first.name)}</h3>" + table(
        "differences", f"Differences on {systems[0].trials}", heading, rows, note
    )


def _conditions(systems: Sequence[System], manifest: Manifest) -> str:
    """Return the table by condition, with the systems under each."""
    by_condition: dict[str, list[list[str]]] = {}
    for system in systems:
        data = system.certificate.rows
        for condition in conditions_of(
            data, system.threshold, manifest, system.certificate.values["trials"]["name"]
        ):
            shares = (
                "-" if value is None else f"{100 * value:.2f}"
                for value in (condition.missed, condition.accepted, condition.eer)
            )
            counts = (f"{condition.targets:,}", f"{condition.impostors:,}")
            cells = [condition.name, system.name, *counts, *shares]
            by_condition.setdefault(condition.name, []).append(cells)
    rows = [cells for found in by_condition.values() for cells in found]
    heading = ["condition", "system", "targets", "impostors", "missed %", "accepted %", "EER %"]
    note = "Missed and accepted: at the one threshold of the whole list. EER: at the condition's own."
    return "<h3>By condition</h3>" + table(
        "conditions", f"Conditions of {systems[0].trials}", heading, rows, note
    )


def conventions(systems: Sequence[System]) -> str:
    """Return the section on how everything was measured."""
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>"
        for name, words in systems[0].certificate.values["conventions"].items()
    )
    rows = [
        [
            s.name,
            s.certificate.values["trials"]["name"],
            f"{datetime.fromisoformat(s.certificate.values['date']):%Y-%m-%d %H:%M}",
            ", ".join(f"{name} {number}" for name, number in s.certificate.values["versions"].items()),
            "; ".join(f"{name} {sha[:16]}" for name, sha in s.certificate.values["model"]["sha256"].items()),
            s.certificate.values["command"],
        ]
        for s in systems
    ]
    heading = [
        "system",
        "trials",
        "date (UTC)",
        "versions",
        "SHA-256 of the model (first 16 digits)",
        "command",
    ]
    listed = table("certificates", "Certificates", heading, rows)
    return f"<dl>{terms}</dl>{listed}"
