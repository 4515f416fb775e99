"""The worst errors of a system, from the worst on, with a player for each recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.reports.page.clips import Clip, Clips, player
from idemvox.reports.page.html import note
from idemvox.reports.page.places import System
from idemvox.verification.evaluation import find_utterances

__all__ = ["SECONDS", "WORST", "worst_errors"]

WORST = 10
"""Trials of each kind of error that are shown."""
SECONDS = 8.0
"""Most seconds of each recording that are played."""
_MISSED = "Missed: the same speaker, below the threshold"
_ACCEPTED = "Accepted: different speakers, at or above the threshold"

Known = Mapping[str, Utterance]


def worst_errors(system: System, source: Manifest | Path | None, clips: Clips | None, opened: bool) -> str:
    """Return the worst errors of a system: the lowest targets and the highest impostors.

    Args:
        system: its scores.
        source: has the utterances of the trials, or is the folder of their paths; ``None`` if unknown.
        clips: makes the clips; ``None`` for a page without players.
        opened: whether they show without a click.
    """
    rows = system.certificate.rows
    kinds = {_MISSED: _worst(system, targets=True), _ACCEPTED: _worst(system, targets=False)}
    ids = dict.fromkeys(
        side for trials in kinds.values() for t in trials for side in (rows.enrol[t], rows.test[t])
    )
    title = f"<h3>Worst errors of {escape(system.name)}</h3>"
    if not ids:
        return f"{title}<p>There are none at the threshold of the EER.</p>"
    found = [] if source is None else find_utterances(list(ids), source, system.trials)
    cut = clips.cut(found, SECONDS) if clips is not None and isinstance(found, Manifest) else None
    known = {utterance.id: utterance for utterance in found}
    words = f"The threshold is {system.threshold:.4f}."
    if cut:
        words += f" A player has the first {SECONDS:g} s of a recording."
    lists = "".join(_errors(kind, trials, system, known, cut) for kind, trials in kinds.items() if trials)
    return (
        f"{title}<details{' open' * opened}><summary>At most {WORST} of each kind, the worst first</summary>"
        f"{note(words)}{lists}</details>"
    )


def _worst(system: System, *, targets: bool) -> list[int]:
    """Return the trials that are furthest on the wrong side of the threshold, the worst first."""
    data = system.certificate.rows
    trials = np.flatnonzero(data.labels == targets)
    scores = data.scores[trials].astype(np.float64) * (1 if targets else -1)
    few = np.argpartition(scores, min(WORST, len(scores)) - 1)[:WORST]
    ordered = trials[few[np.argsort(scores[few], kind="stable")]].tolist()
    return [t for t in ordered if (data.scores[t] >= system.threshold) != targets]


def _errors(
    kind: str, trials: Sequence[int], system: System, known: Known, cut: Mapping[str, Clip] | None
) -> str:
    """Return the list of one kind of errors."""
    rows, items = system.certificate.rows, []
    for trial in trials:
        score = float(rows.scores[trial])
        away = abs(score - system.threshold)
        side = "below" if score < system.threshold else "above"
        pair = "".join(
            f"<div>{_side(place, name, known.get(name), cut)}</div>"
            for place, name in (("first", rows.enrol[trial]), ("second", rows.test[trial]))
        )
        items.append(
            f"<li><p><b>{score:.4f}</b>, {away:.4f} {side} the threshold</p>"
            f'<div class="pair">{pair}</div></li>'
        )
    return f'<h4>{kind}</h4><ol class="errors">{"".join(items)}</ol>'


def _side(place: str, name: str, utterance: Utterance | None, cut: Mapping[str, Clip] | None) -> str:
    """Return one recording of an error: its id, what is known about it, and its player."""
    words = f"<code>{escape(name)}</code>"
    if utterance is not None:
        facts = [f"{utterance.seconds:.1f} s"]
        facts += [f"speaker {utterance.speaker}"] if utterance.speaker else []
        facts += [f"recording {utterance.recording}"] if utterance.recording else []
        words += f"<p>{escape(', '.join(facts))}</p>"
    return words if cut is None else words + player(cut.get(name), f"{place} recording: {name}")
