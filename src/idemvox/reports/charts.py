"""Charts as inline SVG: DET curves, histograms, lines over epochs. Colours come from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from idemvox.verification.metrics import EER, Rates

__all__ = ["LINES", "Line", "det_chart", "histogram_chart", "line_chart", "svg"]

Floats = NDArray[np.floating[Any]]
LINES = 6
"""Line styles that the style sheet has, ``line-0`` to ``line-5``; each has its own colour and dashes."""
_SIZE, _LEFT, _BOTTOM = 480, 52, 46  # of the DET chart, with room for the labels
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
_BINS = 60


def det_chart(name: str, curves: Sequence[tuple[str, Rates, EER]]) -> str:
    """Return a DET chart: false rejects over false accepts, on axes of normal deviates.

    Args:
        name: unique in the page; names the parts of the chart for screen readers.
        curves: label, rates, and the EER to mark on the curve.
    """
    lowest = min(max(0.0005, equal.value / 20) for _, _, equal in curves)
    low, high = float(ndtri(min(lowest, 0.01))), float(ndtri(0.8))
    inner = _SIZE - _LEFT - 8

    def across(deviate: Any) -> Any:
        return _LEFT + (np.clip(deviate, low - 0.2, high + 0.2) - low) / (high - low) * inner

    def up(deviate: Any) -> Any:
        return 8 + inner - (np.clip(deviate, low - 0.2, high + 0.2) - low) / (high - low) * inner

    parts = []
    for tick in (tick for tick in _TICKS if low <= ndtri(tick) <= high):
        x, y, text = float(across(ndtri(tick))), float(up(ndtri(tick))), f"{100 * tick:g}"
        parts.append(f'<path class="grid" d="M{x:.1f} 8V{8 + inner}M{_LEFT} {y:.1f}H{_LEFT + inner}"/>')
        parts.append(f'<text x="{x:.1f}" y="{8 + inner + 16}" text-anchor="middle">{text}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    upright = f'transform="translate(13 {8 + inner / 2:.0f}) rotate(-90)"'
    parts.append(
        f'<text x="{_LEFT + inner / 2:.0f}" y="{8 + inner + 36}" text-anchor="middle">false accepts, %</text>'
        f'<text {upright} text-anchor="middle">false rejects, %</text>'
        f'<clipPath id="{name}-clip"><rect x="{_LEFT}" y="8" width="{inner}" height="{inner}"/></clipPath>'
    )
    for number, (label, rates, equal) in enumerate(curves):
        fpr, fnr = rates.probits
        path = _path(across(fpr), up(fnr))
        at = ndtri(min(max(equal.value, 1e-9), 1 - 1e-9))
        parts.append(
            f'<g clip-path="url(#{name}-clip)" class="line-{number % LINES}"><title>{escape(label)}</title>'
            f'<path class="curve" d="{path}"/>'
            f'<circle cx="{float(across(at)):.1f}" cy="{float(up(at)):.1f}" r="4"/></g>'
        )
    words = "; ".join(f"{label}: EER {100 * equal.value:.2f} %" for label, _, equal in curves)
    return svg(name, _SIZE, 8 + inner + _BOTTOM, "DET curves", f"{words}. Dots mark the EERs.", parts)


def histogram_chart(name: str, scores: Floats, labels: NDArray[np.bool_], threshold: float) -> str:
    """Return histograms of target and impostor scores, each of area 1, with a threshold.

    Scores beyond percentiles 0.05 and 99.95 of the trials are counted in the first and last bar.
    """
    low, high = (float(end) for end in np.percentile(scores, (0.05, 99.95)))
    low, high = min(low, threshold), max(high, threshold)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    width, height, base = 480, 200, 160
    edges = np.linspace(low, high, _BINS + 1)
    counts = [np.histogram(np.clip(scores[side], low, high), edges)[0] for side in (~labels, labels)]
    shares = [count / count.sum() for count in counts]
    top = max(float(share.max()) for share in shares)
    x = 10 + (edges - low) / (high - low) * (width - 20)
    parts = [f'<path class="grid" d="M10 {base}H{width - 10}"/>']
    for share, kind in zip(shares, ("impostors", "targets"), strict=True):
        y = base - share / top * (base - 22)
        steps = "".join(f"V{b:.1f}H{right:.1f}" for b, right in zip(y, x[1:], strict=True))
        path = f'<path d="M{x[0]:.1f} {base}{steps}V{base}Z"/>'
        parts.append(f'<g class="{kind}"><title>{kind}</title>{path}</g>')
    at = 10 + (threshold - low) / (high - low) * (width - 20)
    side = "end" if at > width * 0.6 else "start"
    shift = -5 if side == "end" else 5
    parts.append(f'<path class="threshold" d="M{at:.1f} 6V{base}"/>')
    parts.append(f'<text x="{at + shift:.1f}" y="14" text-anchor="{side}">threshold {threshold:.4g}</text>')
    for value in (low, (low + high) / 2, high):
        place = 10 + (value - low) / (high - low) * (width - 20)
        anchor = {low: "start", high: "end"}.get(value, "middle")
        parts.append(f'<text x="{place:.1f}" y="{base + 16}" text-anchor="{anchor}">{value:.3g}</text>')
    parts.append(f'<text x="{width / 2:.0f}" y="{base + 34}" text-anchor="middle">score</text>')
    means = [float(scores[side].mean()) for side in (labels, ~labels)]
    words = (
        f"Target scores around {means[0]:.3g}, impostor scores around {means[1]:.3g}, threshold at the EER"
        f" {threshold:.4g}."
    )
    return svg(name, width, height, "Histogram of scores", words, parts)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A number over epochs.

    Attributes:
        name: of the run.
        style: number of its colour and dashes.
        x, y: (N,) the epochs and the number, NaN where there is none.
    """

    name: str
    style: int
    x: Floats
    y: Floats

    @property
    def points(self) -> tuple[Floats, Floats]:
        """The epochs with a number, and the number."""
        there = np.isfinite(self.y)
        return self.x[there], self.y[there]

    @property
    def changes(self) -> bool:
        """Whether it has two different values or more."""
        return len(np.unique(self.points[1])) > 1


def line_chart(name: str, title: str, lines: Sequence[Line]) -> str:
    """Return a chart of lines over epochs.

    Args:
        name: unique in the page.
        title: what the number is.
        lines: one or more, at least one of which has a point.
    """
    width, base = 320, 124
    points = [line.points for line in lines]
    every_x, every_y = (np.concatenate(part) for part in zip(*points, strict=True))
    (first, last), (low, high) = ((float(e.min()), float(e.max())) for e in (every_x, every_y))
    left = 14 + 7 * max(len(f"{value:.3g}") for value in (low, high))
    across = (width - left - 10) / max(last - first, 1e-9)
    up = (base - 10) / max(high - low, 1e-9)
    parts = []
    for value in dict.fromkeys((low, high)):
        y = base - (value - low) * up
        parts.append(f'<path class="grid" d="M{left} {y:.1f}H{width - 10}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for value in dict.fromkeys((first, last)):
        anchor = "start" if value == first else "end"
        x = left + (value - first) * across
        parts.append(f'<text x="{x:.1f}" y="{base + 18}" text-anchor="{anchor}">{value:g}</text>')
    parts.append(f'<text x="{(left + width) / 2:.0f}" y="{base + 18}" text-anchor="middle">epoch</text>')
    words = []
    for line, (epochs, values) in zip(lines, points, strict=True):
        if len(epochs):
            path = _path(left + (epochs - first) * across, base - (values - low) * up)
            end = path.rsplit("L", 1)[-1].removeprefix("M").split()
            parts.append(
                f'<g class="line-{line.style % LINES}"><title>{escape(line.name)}</title>'
                f'<path class="curve" d="{path}"/><circle cx="{end[0]}" cy="{end[1]}" r="3"/></g>'
            )
            ends = (f"{values[at]:.3g} in epoch {epochs[at]:g}" for at in (0, -1))
            words.append(f"{line.name}: {', '.join(ends)}")
    return svg(name, width, base + 26, title, f"{'; '.join(words)}.", parts)


def _path(x: Floats, y: Floats) -> str:
    """Return an SVG path through points, without those that would not move it."""
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
    kept = [point for point, before in zip(points, [None, *points], strict=False) if point != before]
    return "M" + "L".join(kept)


def svg(name: str, width: float, height: float, title: str, words: str, parts: Sequence[str]) -> str:
    """Return a chart of some parts, with a title and a description for screen readers."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(words)}</desc>'
        f"{''.join(parts)}</svg>"
    )
