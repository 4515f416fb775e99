"""The section of the page on voices: a t-SNE whose points say what they are and can be played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.model import load_model
from idemvox.reports.charts import svg
from idemvox.reports.page.clips import Clip, Clips, player
from idemvox.reports.page.html import Html, note, table
from idemvox.reports.page.places import Run
from idemvox.reports.picture import require_plots, tsne_points
from idemvox.reports.voices import choose_voices, voices_in_manifest
from idemvox.verification.embed import embed_files

__all__ = ["SPEAKERS", "UTTERANCES", "voices"]

SPEAKERS, UTTERANCES = 10, 15
"""Most speakers, and utterances of each, in the picture."""
SECONDS = 3.0
"""Most seconds of each utterance that are played."""
_SIZE = 480
_SHAPES = (
    *("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z", "M-4.5-4.5h9v9h-9Z", "M0-6L5.5 4.5H-5.5Z"),
    *("M0-6.5L5 0L0 6.5L-5 0Z", "M0 6L5.5-4.5H-5.5Z", "M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z"),
    *("M-6-3L-3-6L0-3L3-6L6-3L3 0L6 3L3 6L0 3L-3 6L-6 3L-3 0Z", "M-5 0L5-5.5V5.5Z"),
    *("M0-7L1.8-2.4L6.7-2.2L2.9.9L4.1 5.7L0 3L-4.1 5.7L-2.9.9L-6.7-2.2L-1.8-2.4Z", "M5 0L-5-5.5V5.5Z"),
)
"""A shape for each speaker, around the origin."""
_HOW = (
    "Each point is an utterance; colour and shape are its speaker. Move over a point, touch it, or use the"
    " arrow keys: left and right go from point to point, up and down from speaker to speaker. A point says"
    " what it is, and marks those of its speaker and, with an outline, those of its recording."
)
_PLAYS = " A click or Enter plays it."
_MEANS = " Distances between groups mean nothing."


@dataclass(frozen=True, eq=False)
class _Picture:
    """The chosen utterances.

    Attributes:
        ids, speakers, recordings: (N,) one of each utterance.
        clips: by id, as far as there are any.
    """

    ids: Sequence[str]
    speakers: Sequence[str]
    recordings: Sequence[str]
    clips: Mapping[str, Clip]

    @property
    def voices(self) -> list[str]:
        """The speakers, in the order of their shapes."""
        return list(dict.fromkeys(self.speakers))


def voices(
    runs: Sequence[Run], manifest: Manifest | None, clips: Clips | None, device: str | None, progress: bool
) -> str:
    """Return a t-SNE of the same utterances by each run's model, and all of them as a table.

    Args:
        runs: each has a model.
        manifest: names the utterances and their speakers; ``None`` gives words that it is missing.
        clips: makes the audio; ``None`` for points that cannot be played.
        device: of the models.
        progress: show progress bars.
    """
    if manifest is None:
        return note("There is no picture of voices, because no manifest names utterances (--manifest).")
    models = [load_model(run.model) for run in runs if run.model is not None]
    try:
        require_plots()
        known = voices_in_manifest(manifest)
        chosen = choose_voices(known, SPEAKERS, UTTERANCES)
        utterances = Manifest([manifest.by_id[name] for name in chosen], manifest.root)
        found = [embed_files(m.encoder, utterances, device=device, progress=progress).matrix for m in models]
    except IdemvoxError as reason:
        return note(f"There is no picture of voices: {reason}")
    cut = {} if clips is None else clips.cut(utterances, SECONDS)
    speakers, recordings = zip(*(known[name] for name in chosen), strict=True)
    picture = _Picture(chosen, speakers, recordings, cut)
    nearest = [_nearest(matrix) for matrix in found]
    maps = "".join(
        _map(f"voices-{n}", run.name, tsne_points(matrix), near, picture)
        for n, (run, matrix, near) in enumerate(zip(runs, found, nearest, strict=True))
    )
    how = _HOW + (_PLAYS if cut else "") + _MEANS
    return f'{note(how)}{_key(picture)}<div class="charts">{maps}</div>{_table(runs, nearest, picture)}'


def _nearest(matrix: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return (N,) the row of the other embedding (N, D) that is nearest by cosine."""
    unit = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    nearest: NDArray[np.intp] = cosines.argmax(axis=1)
    return nearest


def _key(picture: _Picture) -> str:
    """Return the speakers beside their shapes."""
    shapes = "".join(
        f'<li><svg viewBox="-8 -8 16 16" aria-hidden="true"><path class="dot v{n}" d="{_SHAPES[n]}"/></svg>'
        f" {escape(voice)}</li>"
        for n, voice in enumerate(picture.voices)
    )
    return f'<ul class="key shapes">{shapes}</ul>'


def _map(
    name: str, run: str, points: NDArray[np.float64], nearest: NDArray[np.intp], picture: _Picture
) -> str:
    """Return the figure of one model, with places (N, 2) and the nearest other utterance of each (N,)."""
    span = max(float(np.ptp(points, axis=0).max()), 1e-9)
    middle = (points.max(axis=0) + points.min(axis=0)) / 2
    places = _SIZE / 2 + (points - middle) / span * (_SIZE - 32)
    order = {voice: n for n, voice in enumerate(picture.voices)}
    pairs = list(zip(picture.speakers, picture.recordings, strict=True))  # names may be of one speaker only
    rooms = {pair: n for n, pair in enumerate(dict.fromkeys(pairs)) if pair[1]}
    parts = [f'<rect class="frame" x="1" y="1" width="{_SIZE - 2}" height="{_SIZE - 2}"/>']
    for at, (x, y) in enumerate(places.tolist()):
        shape, room = order[picture.speakers[at]], rooms.get(pairs[at], -1)
        plays = f' data-clip="{_clip(at)}"' if picture.ids[at] in picture.clips else ""
        parts.append(
            f'<path class="dot v{shape}" transform="translate({x:.1f} {y:.1f})" d="{_SHAPES[shape]}"'
            f' data-speaker="{shape}" data-recording="{room}"{plays}>'
            f"<title>{escape(_about(picture, at))}</title></path>"
        )
    who, where = np.array(picture.speakers), np.array(picture.recordings)
    words = (
        f"{len(picture.ids)} utterances of {len(order)} speakers. The nearest other utterance is of the same"
        f" speaker for {100 * np.mean(who[nearest] == who):.0f} % of them"
    )
    if rooms:
        same = (who[nearest] == who) & (where[nearest] == where) & (where != "")
        words += f", and of the same recording for {100 * np.mean(same):.0f} %"
    drawn = svg(name, _SIZE, _SIZE, f"t-SNE of voices by {run}", f"{words}.", parts)
    caption = f"<b>{escape(run)}</b>: {words}."
    return (
        f'<figure class="voices">{drawn}<p class="tip" hidden></p><figcaption>{caption}</figcaption></figure>'
    )


def _about(picture: _Picture, at: int) -> str:
    """Return what an utterance is."""
    recording = picture.recordings[at]
    where = f", recording {recording}" if recording else ""
    return f"{picture.ids[at]}: speaker {picture.speakers[at]}{where}"


def _clip(at: int) -> str:
    """Return the id of the cell of an utterance's player."""
    return f"voice-{at}"


def _table(runs: Sequence[Run], nearest: Sequence[NDArray[np.intp]], picture: _Picture) -> str:
    """Return all utterances, with the nearest other one by each model, and a player."""
    rows = []
    for at, name in enumerate(picture.ids):
        row = [name, picture.speakers[at], picture.recordings[at]]
        for near in nearest:
            other = int(near[at])
            same = picture.speakers[other] == picture.speakers[at]
            row.append(f"{picture.ids[other]} ({'same' if same else 'another'} speaker)")
        if picture.clips:
            heard = player(picture.clips.get(name), name)
            row.append(Html(f'<span id="{_clip(at)}">{heard}</span>'))
        rows.append(row)
    heading = ["utterance", "speaker", "recording", *(f"nearest by {run.name}" for run in runs)]
    heading += ["player"] if picture.clips else []
    listed = table("voices", "Utterances of the picture", heading, rows)
    return f"<details><summary>The utterances as a table</summary>{listed}</details>"
