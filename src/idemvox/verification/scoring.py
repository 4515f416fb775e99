"""From embeddings to one score per trial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from idemvox.encoders.base import Scoring
from idemvox.errors import IdemvoxError
from idemvox.verification.embed import Embeddings
from idemvox.verification.trials import Trials

__all__ = ["SCORING_NAMES", "cosine_scores", "euclidean_scores", "trial_scores"]

SCORING_NAMES: dict[Scoring, str] = {
    "cosine": "cosine",
    "euclidean": "minus squared Euclidean distance",
}
"""In words, for reports."""


def trial_scores(scoring: Scoring, embeddings: Embeddings, trials: Trials) -> NDArray[np.float32]:
    """(N,) scores of the trials, compared as the encoder of the embeddings says."""
    return (cosine_scores if scoring == "cosine" else euclidean_scores)(embeddings, trials)


def cosine_scores(embeddings: Embeddings, trials: Trials, chunk: int = 65_536) -> NDArray[np.float32]:
    """(N,) cosine of the two embeddings of each trial, in [-1, 1].

    Args:
        embeddings: must hold every id of the trials; an all-zero embedding scores 0.
        trials: the pairs.
        chunk: trials scored at a time; bounds the memory and changes nothing else.

    Raises:
        IdemvoxError: ids of the trials without an embedding, with up to five of them.
    """
    matrix = _matrix(embeddings, trials)
    matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    scores = np.empty(len(trials), np.float32)
    for start in range(0, len(trials), chunk):
        part = slice(start, start + chunk)
        enrol, test = matrix[trials.enrol_index[part]], matrix[trials.test_index[part]]  # (chunk, D)
        scores[part] = np.einsum("nd,nd->n", enrol, test)
    return scores


def euclidean_scores(embeddings: Embeddings, trials: Trials, chunk: int = 65_536) -> NDArray[np.float32]:
    """(N,) minus the squared Euclidean distance of each trial's embeddings as they are, 0 at most.

    What the prototypical loss compares.  Arguments and errors are those of :func:`cosine_scores`.
    """
    matrix = _matrix(embeddings, trials)
    scores = np.empty(len(trials), np.float32)
    for start in range(0, len(trials), chunk):
        part = slice(start, start + chunk)
        apart = matrix[trials.enrol_index[part]] - matrix[trials.test_index[part]]  # (chunk, D)
        scores[part] = -np.einsum("nd,nd->n", apart, apart)
    return scores


def _matrix(embeddings: Embeddings, trials: Trials) -> NDArray[np.float32]:
    """Return the embedding of each id of the trials, (ids, D)."""
    rows = embeddings.rows
    missing = [i for i in trials.ids if i not in rows]
    if missing:
        raise missing_ids(missing, len(trials.ids), trials.name)
    matrix: NDArray[np.float32] = embeddings.matrix[np.array([rows[i] for i in trials.ids], np.int64)]
    return matrix


def missing_ids(missing: list[str], total: int, name: str) -> IdemvoxError:
    """Return the error for trials that name utterances nobody has."""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return IdemvoxError(
        f"{len(missing)} of the {total} utterances in the trials {name!r} are unknown: {shown};"
        " names must be ids or paths in the manifest, or paths below the root folder: is it the right one?"
    )
