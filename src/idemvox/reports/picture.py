"""A t-SNE picture that shows whether embeddings group by speaker or by recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write

__all__ = ["MOST_RECORDINGS", "MOST_SPEAKERS", "Panel", "require_plots", "tsne_picture", "tsne_points"]

Panel = tuple[str, NDArray[Any], Sequence[str], Sequence[str]]
"""(title, (N, D) embeddings, speaker of each, recording of each)."""

_MARKERS = "o^sDvPX*<>"
MOST_SPEAKERS = 20
"""Most speakers that colours can distinguish."""
MOST_RECORDINGS = len(_MARKERS)
"""Most recordings of a speaker that markers can distinguish."""


def require_plots() -> None:
    """Raise an error that names the extra ``plots`` if its packages are missing."""
    try:
        import matplotlib  # noqa: F401
        import sklearn.manifold  # noqa: F401
    except ImportError as error:
        raise IdemvoxError(
            f"pictures need matplotlib and scikit-learn ({error}): pip install 'idemvox[plots]'"
        ) from error


def tsne_picture(
    panels: Sequence[Panel], out: str | Path, *, perplexity: float = 30.0, seed: int = 0
) -> Path:
    """Draw panels side by side; colours are speakers, markers recordings (numbered within a speaker).

    Args:
        panels: one per model, usually of the same utterances; at most 20 speakers, 10 recordings each.
        out: PNG file, written atomically.
        perplexity: reduced if there are few points.
        seed: the same seed gives the same picture.

    Raises:
        IdemvoxError: the extra ``plots`` is missing, or there is too much or too little to draw.
    """
    require_plots()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    speakers, markers = _check(panels)
    colours = _colours(len(speakers))
    figure = Figure(figsize=(4.6 * len(panels) + 1.8, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, matrix, who, recordings) in zip(axes, panels, strict=True):
        points = tsne_points(matrix, perplexity, seed)
        order = _order(who, recordings)
        for speaker, colour in zip(speakers, colours, strict=True):
            for number, marker in enumerate(_MARKERS):
                here = [o == number and s == speaker for o, s in zip(order, who, strict=True)]
                if any(here):
                    style = {"s": 32, "marker": marker, "color": colour, "alpha": 0.85}
                    axis.scatter(*points[here].T, linewidths=0.3, edgecolors="white", **style)
        axis.set(title=title, xticks=[], yticks=[])
        axis.set_box_aspect(1)
    _legends(figure, speakers, colours, markers)
    with atomic_write(out, "wb") as file:
        figure.savefig(file, format="png")
    return Path(out)


def tsne_points(matrix: NDArray[Any], perplexity: float = 30.0, seed: int = 0) -> NDArray[np.float64]:
    """Return (N, 2) the places of embeddings (N, D) in a t-SNE; N is at least 4.

    Embeddings are length-normalised first (van der Maaten & Hinton, 2008), because verification compares them
    by cosine. The axes, and distances between clusters, mean nothing.

    Args:
        matrix: the embeddings.
        perplexity: reduced if there are few points.
        seed: the same seed gives the same places.
    """
    from sklearn.manifold import TSNE  # type: ignore[import-untyped,unused-ignore]

    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    near = min(perplexity, (len(unit) - 1) / 3)
    tsne = TSNE(perplexity=near, init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(np.asarray(unit, np.float64)), np.float64)


def _check(panels: Sequence[Panel]) -> tuple[list[str], int]:
    """Return all speakers, and the highest number of recordings of a speaker."""
    if not panels:
        raise IdemvoxError("a picture needs at least one panel")
    for title, matrix, who, recordings in panels:
        if not len(matrix) == len(who) == len(recordings) or len(matrix) < 4:
            raise IdemvoxError(
                f"panel {title!r} needs at least 4 embeddings with a speaker and a recording for each,"
                f" got {len(matrix)}, {len(who)} and {len(recordings)}"
            )
    speakers = sorted({speaker for _, _, who, _ in panels for speaker in who}, key=_natural)
    if len(speakers) > MOST_SPEAKERS:
        raise IdemvoxError(
            f"{len(speakers)} speakers are too many to distinguish by colour; choose at most {MOST_SPEAKERS}"
        )
    most = max(max(_order(who, recordings)) + 1 for _, _, who, recordings in panels)
    if most > MOST_RECORDINGS:
        raise IdemvoxError(f"{most} recordings of a speaker are too many; choose at most {MOST_RECORDINGS}")
    return speakers, most


def _natural(name: str) -> list[tuple[str, int]]:
    """Sort key by which ``s2`` comes before ``s10``."""
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


def _order(speakers: Sequence[str], recordings: Sequence[str]) -> list[int]:
    """Return the number of each recording within its speaker, from 0, in order of names."""
    recordings_of: dict[str, list[str]] = {}
    for speaker, recording in sorted(set(zip(speakers, recordings, strict=True))):
        recordings_of.setdefault(speaker, []).append(recording)
    return [recordings_of[s].index(r) for s, r in zip(speakers, recordings, strict=True)]


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    if count <= 10:
        return list(colormaps["tab10"].colors[:count])  # type: ignore[attr-defined]
    shades = colormaps["tab20"].colors  # type: ignore[attr-defined]
    return [*shades[::2], *shades[1::2]][:count]


def _legends(figure: Any, speakers: Sequence[str], colours: Sequence[Any], recordings: int) -> None:
    """Add a legend right of the panels: speakers, then recordings if there are several."""
    from matplotlib.lines import Line2D

    def dot(label: str, colour: Any, marker: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, label=label, markersize=5)

    blank = Line2D([], [], linestyle="", label="")
    handles = [dot(speaker, colour, "o") for speaker, colour in zip(speakers, colours, strict=True)]
    handles.insert(0, Line2D([], [], linestyle="", label="speaker"))
    if recordings > 1:
        handles += [blank, Line2D([], [], linestyle="", label="recording")]
        handles += [dot(f"{n + 1}", "dimgrey", _MARKERS[n]) for n in range(recordings)]
    columns = 1 + (len(handles) - 1) // 22
    legend = figure.legend(
        handles=handles, loc="outside right upper", ncols=columns, frameon=False, fontsize=8
    )
    for text in legend.get_texts():
        if text.get_text() in ("speaker", "recording"):
            text.set_fontweight("bold")
