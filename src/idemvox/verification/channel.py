"""How much embeddings reveal about the recording channel, and how compact speakers are in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from idemvox.corpus.manifest import Utterance
from idemvox.errors import CorpusError
from idemvox.verification.embed import Embeddings

__all__ = ["Channel", "channel_information", "probe_accuracy"]

Numbers = NDArray[np.float64]
Labels = NDArray[np.int64]
_RIDGE = 0.1  # as a share of the mean squared length of a centred embedding
_MOST = 60  # most utterances of a speaker that the probe uses


@dataclass(frozen=True, slots=True)
class Channel:
    """What embeddings encode besides the voice.

    Attributes:
        probe: accuracy of a linear probe that predicts an utterance's recording, given its speaker. All
            recordings and all speakers have the same weight.
        chance: accuracy of guessing.
        speakers: number of speakers with at least two recordings of at least two utterances; the probe uses
            only these.
        same_recording: mean cosine of two utterances from one recording.
        other_recording: mean cosine of two utterances of one speaker from different recordings.
        other_speaker: mean cosine of two utterances of different speakers.
    """

    probe: float
    chance: float
    speakers: int
    same_recording: float
    other_recording: float
    other_speaker: float


def channel_information(embeddings: Embeddings, utterances: Sequence[Utterance]) -> Channel:
    """Measure how well recordings of a speaker can be told apart, and how close utterances are.

    The probe is ridge regression to the recordings of one speaker, with cross-validation. Each fold trains on
    all but one utterance of each recording and predicts those left out. (Leaving out a single utterance would
    make its recording rarer in training, and an embedding of the voice alone would score below chance.)

    Args:
        embeddings: must hold all the utterances.
        utterances: the utterances to use; those without speaker or recording are ignored.

    Raises:
        CorpusError: no speaker has two recordings with two utterances each.
    """
    known = [u for u in utterances if u.speaker is not None and u.recording is not None]
    speaker = _numbers([u.speaker or "" for u in known])
    recording = _numbers([f"{u.speaker}\0{u.recording}" for u in known])
    x = np.stack([embeddings[u.id] for u in known]).astype(np.float64) if known else np.zeros((0, 1))
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    right, chance = [], []
    for number in range(speaker.max(initial=-1) + 1):
        rows = _repeated(np.flatnonzero(speaker == number), recording)[:_MOST]
        rows = _repeated(rows, recording)
        classes = np.unique(recording[rows])
        if len(classes) > 1:
            right.append(probe_accuracy(x[rows], np.searchsorted(classes, recording[rows])))
            chance.append(1 / len(classes))
    if not right:
        raise CorpusError("a channel probe needs a speaker with two recordings of two utterances each")
    return Channel(
        float(np.mean(right)), float(np.mean(chance)), len(right), *_cosines(x, speaker, recording)
    )


def _numbers(names: Sequence[str]) -> Labels:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1].astype(np.int64)


def _repeated(rows: Labels, recording: Labels) -> Labels:
    """Return the rows whose recording has another row, in round-robin order of recordings."""
    name, inverse, count = np.unique(recording[rows], return_inverse=True, return_counts=True)
    kept = count[inverse] > 1
    turn = np.zeros(len(rows), np.int64)
    for number in range(len(name)):
        turn[inverse == number] = np.arange(count[number])
    return rows[kept][np.argsort(turn[kept], kind="stable")]


def probe_accuracy(x: Numbers, label: Labels) -> float:
    """Return the accuracy of a linear probe, averaged over the R classes.

    It is ridge regression with cross-validation: each fold trains on all but one vector of each class.

    Args:
        x: (n, D) vectors.
        label: (n,) classes from 0 to R - 1, each of two vectors or more.
    """
    members = [np.flatnonzero(label == number) for number in range(int(label.max()) + 1)]
    right, asked = np.zeros(len(x)), np.zeros(len(x))
    for fold in range(max(len(rows) for rows in members)):
        out = np.array([rows[fold % len(rows)] for rows in members])
        learnt = np.setdiff1d(np.arange(len(x)), out)
        weight = 1 / np.bincount(label[learnt])[label[learnt]]
        weight /= weight.sum()  # (n - R,)
        root, centre = np.sqrt(weight)[:, None], weight @ x[learnt]
        scaled = root * (x[learnt] - centre)
        target = root * (np.eye(len(members))[label[learnt]] - 1 / len(members))  # (n - R, R)
        kernel = scaled @ scaled.T
        ridge = _RIDGE * kernel.trace() / len(kernel) + 1e-12
        answers = (x[out] - centre) @ scaled.T @ np.linalg.solve(kernel + ridge * np.eye(len(kernel)), target)
        right[out] += answers.argmax(1) == label[out]
        asked[out] += 1
    return float(np.mean([np.mean(right[rows] / asked[rows]) for rows in members]))


def _cosines(x: Numbers, speaker: Labels, recording: Labels) -> tuple[float, float, float]:
    """Return the mean cosine within recordings, across recordings of a speaker, and across speakers."""
    sums, counts = np.zeros(3), np.zeros(3)
    for row in range(len(x) - 1):
        kind = np.where(recording[row + 1 :] == recording[row], 0, 1)
        kind[speaker[row + 1 :] != speaker[row]] = 2
        sums += np.bincount(kind, x[row + 1 :] @ x[row], 3)
        counts += np.bincount(kind, minlength=3)
    same, other, apart = (float(s / c) if c else float("nan") for s, c in zip(sums, counts, strict=True))
    return same, other, apart
