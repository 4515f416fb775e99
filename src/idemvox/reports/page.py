"""The report page: one HTML file, with no scripts and no network, from the certificates of evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write
from idemvox.reports.charts import LINES, det_chart, histogram_chart
from idemvox.reports.conditions import conditions_of
from idemvox.verification.certificate import Certificate, read_certificate
from idemvox.verification.comparison import compare
from idemvox.verification.counts import SortedTrials
from idemvox.verification.metrics import det_curve_of, eer_of

__all__ = ["report_page"]

_WORST = 10  # trials of each kind of error that are listed
_RATES = ("EER", "EER interpolated", "EER hull")
_COUNTS = ("targets", "impostors")
_LAST = ("EER interpolated", "EER hull", "EER threshold")


@dataclass(frozen=True, eq=False)
class _System:
    """An evaluation with its name in the page."""

    name: str
    certificate: Certificate

    @cached_property
    def ordered(self) -> SortedTrials:
        """Its sorted scores."""
        return SortedTrials(self.certificate.rows.scores, self.certificate.rows.labels)

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float]]:
        """Its metrics."""
        found: Mapping[str, Mapping[str, float]] = self.certificate.values["metrics"]
        return found

    @property
    def threshold(self) -> float:
        """The threshold at its EER."""
        return self.metrics["EER threshold"]["value"]


def report_page(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    manifest: Manifest | None = None,
    title: str = "Speaker verification report",
) -> Path:
    """Write the report page of some certificates; systems on the same trials are compared with the first.

    Args:
        folders: folders of certificates, in the order of the page.
        out: the HTML file.
        manifest: names the utterances of the trials; gives results by duration and by recording.
        title: heading of the page.

    Raises:
        IdemvoxError: a certificate is not in order, or one is given twice.
    """
    systems = _named([read_certificate(folder) for folder in folders])
    lists: dict[str, list[_System]] = {}
    for system in systems:
        lists.setdefault(system.certificate.values["trials"]["sha256"], []).append(system)
    body = "".join(_trials(f"list-{n}", group, manifest) for n, group in enumerate(lists.values(), 1))
    links = "".join(
        f'<li><a href="#list-{n}">{escape(group[0].certificate.values["trials"]["name"])}</a></li>'
        for n, group in enumerate(lists.values(), 1)
    )
    style = resources.files("idemvox.reports").joinpath("page.css").read_text(encoding="utf-8")
    with atomic_write(out) as file:
        file.write(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{style}</style></head>"
            f'<body><a class="skip" href="#main">Skip to the results</a><header><h1>{escape(title)}</h1>'
            "<p>Every number was computed again from the scores when this page was made.</p>"
            f'<nav aria-label="Trial lists"><ul>{links}</ul></nav></header><main id="main">{body}'
            f"{_conventions(systems)}</main></body></html>\n"
        )
    return Path(out)


def _named(certificates: Sequence[Certificate]) -> list[_System]:
    """Name each certificate after its folder or the run that it lies in; two of one name by their paths."""
    if len({c.folder.resolve() for c in certificates}) < len(certificates):
        raise IdemvoxError("a certificate is given twice: name each folder once")
    short = []
    for certificate in certificates:
        parts = [p for p in certificate.folder.resolve().parts if p != "certificate"]
        same = parts[-1] == certificate.values["trials"]["name"].replace("/", "-") and len(parts) > 1
        short.append(parts[-2] if same else parts[-1])
    keys = [(name, c.values["trials"]["sha256"]) for name, c in zip(short, certificates, strict=True)]
    names = [
        name if keys.count(key) == 1 else str(c.folder)
        for name, key, c in zip(short, keys, certificates, strict=True)
    ]
    return [_System(name, c) for name, c in zip(names, certificates, strict=True)]


def _trials(name: str, systems: Sequence[_System], manifest: Manifest | None) -> str:
    """Return the section of one trial list."""
    values = systems[0].certificate.values
    counts = (f"{systems[0].metrics[kind]['value']:,.0f} {kind}" for kind in _COUNTS)
    curves = [(s.name, det_curve_of(s.ordered), eer_of(s.ordered)) for s in systems]
    keys = "".join(
        f'<li><svg viewBox="0 0 40 10" class="line-{n % LINES}" aria-hidden="true">'
        f'<path class="curve" d="M0 5H40"/></svg> {escape(s.name)}</li>'
        for n, s in enumerate(systems)
    )
    parts = [
        f'<section id="{name}" aria-labelledby="{name}-h">'
        f'<h2 id="{name}-h">{escape(values["trials"]["name"])}</h2>',
        f"<p>{', '.join(counts)}. SHA-256 of the trials: <code>{values['trials']['sha256']}</code></p>",
        _results(systems),
        _differences(systems),
        f"<h3>DET curves</h3><figure>{det_chart(f'{name}-det', curves)}<figcaption>"
        f'<ul class="key">{keys}</ul>'
        "Dots mark the EERs. Lower left is better.</figcaption></figure>",
        '<h3>Scores</h3><div class="charts">',
    ]
    for number, system in enumerate(systems):
        rows = system.certificate.rows
        chart = histogram_chart(f"{name}-scores-{number}", rows.scores, rows.labels, system.threshold)
        parts.append(
            f"<figure>{chart}<figcaption>{escape(system.name)}:"
            " <b class=targets>targets</b> and <b class=impostors>impostors</b>, each of area 1;"
            " the threshold is at the EER.</figcaption></figure>"
        )
    parts.append("</div>")
    if manifest is not None:
        parts.append(_conditions(systems, manifest))
    parts += [_worst(system) for system in systems]
    return "".join(parts) + "</section>"


def _results(systems: Sequence[_System]) -> str:
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
    return "<h3>Results</h3>" + _table("results", heading, rows, note)


def _metric(name: str, values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    scale, digits = (100, 2) if name in _RATES else (1, 4)
    text = f"{scale * values['value']:.{digits}f}"
    if "low" in values:
        text += f" ({scale * values['low']:.{digits}f} to {scale * values['high']:.{digits}f})"
    return text


def _differences(systems: Sequence[_System]) -> str:
    """Return the table of differences to the first system, on the same draws of speakers."""
    if len(systems) < 2:
        return ""
    first, rows, base = systems[0], [], systems[0].certificate.rows
    for system in systems[1:]:
        scores = system.certificate.rows.scores
        found = compare(base.scores, scores, base.labels, *(base.sides or ()))
        changed = found.changed
        sides = [] if changed is None else [f"{changed.only_b:,}", f"{changed.only_a:,}", f"{changed.p:.2g}"]
        texts = [d.absolute_text for d in found.differences]
        rows.append([system.name, *texts, found.differences[0].relative_text, *sides])
    heading = ["system", "EER", "minDCF p=0.01", "minDCF p=0.05", "EER, relative", "only it right"]
    heading += [f"only {first.name} right", "p"]
    note = (
        "Below 0 is better. Intervals: 95 %, the same draws of speakers for both. “Right”: each at the"
        " threshold of its own EER. p is of an exact binomial test of these two counts; it is too small,"
        " because trials share speakers."
    )
    return f"<h3>Differences to {escape(first.name)}</h3>" + _table("differences", heading, rows, note)


def _conditions(systems: Sequence[_System], manifest: Manifest) -> str:
    """Return the tables by duration and by recording."""
    rows = []
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
            rows.append([system.name, condition.name, *counts, *shares])
    heading = ["system", "condition", "targets", "impostors", "missed %", "accepted %", "EER %"]
    note = "Missed and accepted: at the one threshold of the whole list. EER: at the condition's own."
    return "<h3>By condition</h3>" + _table("conditions", heading, rows, note)


def _worst(system: _System) -> str:
    """Return the table of the worst errors: the lowest targets and the highest impostors."""
    data = system.certificate.rows
    rows = []
    for kind, side, sign in (("missed", data.labels, 1), ("accepted", ~data.labels, -1)):
        trials = np.flatnonzero(side)
        scores = sign * data.scores[trials].astype(np.float64)
        few = np.argpartition(scores, min(_WORST, len(scores)) - 1)[:_WORST]
        for trial in trials[few[np.argsort(scores[few], kind="stable")]]:
            if (data.scores[trial] >= system.threshold) != data.labels[trial]:
                rows.append([kind, f"{data.scores[trial]:.4f}", data.enrol[trial], data.test[trial]])
    name = escape(system.name)
    if not rows:
        return f"<h3>Worst errors of {name}</h3><p>There are none at the threshold of the EER.</p>"
    heading = ["error", "score", "first", "second"]
    note = f"The threshold is {system.threshold:.4f}."
    return (
        f"<details><summary>Worst errors of {name}</summary>"
        + _table("errors", heading, rows, note)
        + "</details>"
    )


def _conventions(systems: Sequence[_System]) -> str:
    """Return the section on how everything was measured."""
    terms = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>"
        for name, words in systems[0].certificate.values["conventions"].items()
    )
    rows = [
        [
            s.name,
            s.certificate.values["trials"]["name"],
            s.certificate.values["date"],
            ", ".join(f"{name} {number}" for name, number in s.certificate.values["versions"].items()),
            "; ".join(f"{name} {sha[:16]}" for name, sha in s.certificate.values["model"]["sha256"].items()),
            s.certificate.values["command"],
        ]
        for s in systems
    ]
    heading = ["system", "trials", "date", "versions", "SHA-256 of the model (first 16 digits)", "command"]
    return (
        f'<section aria-labelledby="how"><h2 id="how">How it was measured</h2><dl>{terms}</dl>'
        f"{_table('certificates', heading, rows, '')}</section>"
    )


def _table(label: str, heading: Sequence[str], rows: Iterable[Sequence[Any]], note: str) -> str:
    """Return a table that scrolls sideways where it is too wide; the first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heading)
    body = "".join(
        f'<tr><th scope="row">{escape(str(row[0]))}</th>'
        + "".join(f"<td>{escape(str(cell))}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    foot = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<div class="wide {label}" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{foot}"
    )
