"""Error rates of a trial list by condition: length, recording, sampling rate, gender."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from idemvox.audio.read import SAMPLE_RATE
from idemvox.corpus.manifest import Manifest
from idemvox.verification.evaluation import find_utterances
from idemvox.verification.metrics import eer
from idemvox.verification.score_files import Rows

__all__ = ["Condition", "conditions_of"]

_EDGES = (2.0, 4.0, 8.0)  # seconds


@dataclass(frozen=True, slots=True)
class Condition:
    """Error rates of some of the trials; rates are fractions.

    Attributes:
        missed: share of the targets that the threshold of the whole list rejects; ``None`` without targets.
        accepted: share of the impostors that it accepts; ``None`` without impostors.
        eer: the EER of these trials alone; ``None`` unless there are both.
    """

    name: str
    targets: int
    impostors: int
    missed: float | None
    accepted: float | None
    eer: float | None


def conditions_of(rows: Rows, threshold: float, manifest: Manifest, trials: str) -> list[Condition]:
    """Return the error rates by length and, as far as they are known, by recording, rate and gender.

    Impostors are of different recordings anyway, so targets within and across recordings are set against all
    impostors.

    Args:
        rows: the trials and their scores.
        threshold: of the whole list.
        manifest: has the utterances of the trials.
        trials: name of the list, for messages.
    """
    ids = sorted({*rows.enrol, *rows.test})
    number = {name: i for i, name in enumerate(ids)}
    first, second = (np.array([number[name] for name in side]) for side in (rows.enrol, rows.test))
    utterances = find_utterances(ids, manifest, trials)
    seconds = np.array([utterance.seconds for utterance in utterances])
    shorter = np.minimum(seconds[first], seconds[second])
    kept = [*_lengths(shorter)]
    recordings = [utterance.recording for utterance in utterances]
    if None not in recordings:
        same = _numbers(recordings)[first] == _numbers(recordings)[second]
        for name, keep in (("within a recording", same), ("across recordings", ~same)):
            if np.any(keep & rows.labels):
                kept.append((f"targets {name}, all impostors", keep | ~rows.labels))
    narrow = np.array([utterance.rate < SAMPLE_RATE for utterance in utterances])
    if narrow.any() and not narrow.all():
        either = narrow[first] | narrow[second]
        kept += [(f"both at {SAMPLE_RATE} Hz or more", ~either), ("one or both at a lower rate", either)]
    kept += _genders([utterance.gender for utterance in utterances], first, second)
    found = [_condition(name, rows, threshold, keep) for name, keep in kept]
    return [condition for condition in found if condition.targets or condition.impostors]


def _numbers(names: Sequence[str | None]) -> NDArray[np.intp]:
    """Return a number for each name, the same for the same name."""
    return np.unique([str(name) for name in names], return_inverse=True)[1]


def _genders(
    genders: Sequence[str | None], first: NDArray[np.intp], second: NDArray[np.intp]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the trials with two sides of each gender, and those with sides of different ones."""
    of = np.array([gender or "" for gender in genders])
    for gender in sorted(set(of.tolist()) - {""}):
        yield f"gender {gender}, both", (of[first] == gender) & (of[second] == gender)
    yield "different genders", (of[first] != of[second]) & (of[first] != "") & (of[second] != "")


def _lengths(shorter: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the trials whose shorter side has each range of lengths."""
    yield f"shorter side below {_EDGES[0]:g} s", shorter < _EDGES[0]
    for low, high in pairwise(_EDGES):
        yield f"shorter side {low:g} to {high:g} s", (shorter >= low) & (shorter < high)
    yield f"shorter side {_EDGES[-1]:g} s or more", shorter >= _EDGES[-1]


def _condition(name: str, rows: Rows, threshold: float, keep: NDArray[np.bool_]) -> Condition:
    scores, labels = rows.scores[keep], rows.labels[keep]
    accepted = scores >= threshold
    targets, impostors = int(labels.sum()), int((~labels).sum())
    return Condition(
        name,
        targets,
        impostors,
        float(np.mean(~accepted[labels])) if targets else None,
        float(np.mean(accepted[~labels])) if impostors else None,
        eer(scores, labels).value if targets and impostors else None,
    )
