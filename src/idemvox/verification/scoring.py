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


_DENSE = 16  # up to so many pairs of a first and a second side for each trial, all are scored in one product


def cosine_scores(embeddings: Embeddings, trials: Trials, chunk: int = 1 << 20) -> NDArray[np.float32]:
    """(N,) cosine of the two embeddings of each trial, in [-1, 1].

    Where most pairs of a first and a second side are trials, as in VOiCES, by products of matrices; where
    few are, pair by pair.

    Args:
        embeddings: must hold every id of the trials; an all-zero embedding scores 0.
        trials: the pairs.
        chunk: scores or, pair by pair, numbers of embeddings made at a time; bounds the memory and changes
            nothing else.

    Raises:
        IdemvoxError: ids of the trials without an embedding, with up to five of them.
    """
    matrix = _matrix(embeddings, trials)
    matrix = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    enrolled, tested = (_used(i, len(matrix)) for i in (trials.enrol_index, trials.test_index))
    if len(enrolled) * len(tested) <= _DENSE * len(trials):
        return _by_products(matrix, trials, enrolled, tested, max(1, chunk // len(tested)))
    scores = np.empty(len(trials), np.float32)
    step = max(1, chunk // matrix.shape[1])
    for start in range(0, len(trials), step):
        part = slice(start, start + step)
        enrol, test = matrix[trials.enrol_index[part]], matrix[trials.test_index[part]]  # (step, D)
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


def _used(index: NDArray[np.int32], size: int) -> NDArray[np.intp]:
    """The distinct values of an index below ``size``, sorted."""
    return np.flatnonzero(np.bincount(index, minlength=size))


def _by_products(
    matrix: NDArray[np.float32],
    trials: Trials,
    enrolled: NDArray[np.intp],
    tested: NDArray[np.intp],
    step: int,
) -> NDArray[np.float32]:
    """Score all the pairs of ``step`` first sides with every second one at a time; keep those asked for."""
    scores = np.empty(len(trials), np.float32)
    column = np.zeros(len(matrix), np.int64)  # of each id in a product
    column[tested] = np.arange(len(tested))
    order = np.argsort(trials.enrol_index, kind="stable")
    side = trials.enrol_index[order]
    second = matrix[tested].T  # (D, tests)
    for start in range(0, len(enrolled), step):
        some = enrolled[start : start + step]
        part = order[np.searchsorted(side, some[0]) : np.searchsorted(side, some[-1], side="right")]
        row = np.searchsorted(some, trials.enrol_index[part])
        scores[part] = (matrix[some] @ second)[row, column[trials.test_index[part]]]
    return scores


def missing_ids(missing: list[str], total: int, name: str) -> IdemvoxError:
    """Return the error for trials that name utterances nobody has."""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return IdemvoxError(
        f"{len(missing)} of the {total} utterances in the trials {name!r} are unknown: {shown};"
        " names must be ids or paths in the manifest, or paths below the root folder: is it the right one?"
    )
