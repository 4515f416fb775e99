"""Scores of trials from embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.encoders.base import Scoring
from idemvox.errors import CorpusError, ModelError
from idemvox.model import Model
from idemvox.verification.embed import Embeddings
from idemvox.verification.trials import Trials

__all__ = ["Scorer", "missing_ids"]

Floats = NDArray[np.float32]

_WORDS: dict[Scoring, str] = {
    "cosine": "cosine",
    "euclidean": "minus squared Euclidean distance",
}
_SHORTEST = 1e-12  # a shorter embedding, such as one of zeros, has a cosine of about 0
_DENSE = 16  # most pairs of a first and a second side per trial for which all pairs are scored


@dataclass(frozen=True, slots=True)
class Scorer:
    """How two embeddings are compared; ``str(scorer)`` describes it.

    Attributes:
        compare: ``cosine``, in [-1, 1], or ``euclidean``, minus the squared distance, at most 0; higher means
            more similar.

    >>> Scorer("cosine").score([3, 0], [1, 1]), Scorer("euclidean").score([3, 0], [1, 1])
    (0.7071067811865475, -5.0)
    """

    compare: Scoring = "cosine"

    def __post_init__(self) -> None:
        if self.compare not in _WORDS:
            raise ModelError(f"unknown scoring {self.compare!r}; have: {', '.join(_WORDS)}")

    @classmethod
    def of(cls, model: Model) -> Scorer:
        """Return the scorer of a model, as its folder says."""
        return cls(model.scoring)

    def __str__(self) -> str:
        return _WORDS[self.compare]

    def score(self, first: ArrayLike, second: ArrayLike) -> float:
        """Return the score of two embeddings (D,), computed in float64."""
        one, other = (self._prepare(np.asarray(side, np.float64)[None]) for side in (first, second))
        return float(self._pairs(one, other)[0])

    def scores(self, embeddings: Embeddings, trials: Trials, chunk: int = 1 << 20) -> Floats:
        """Return (T,) the scores of the trials.

        If cosines are needed for most pairs of a first and a second side, as in VOiCES, they are matrix
        products; otherwise trials are scored pair by pair.

        Args:
            embeddings: must hold every id of the trials.
            trials: the pairs.
            chunk: scores (pair by pair: numbers in embeddings) computed at a time; affects memory only.

        Raises:
            CorpusError: ids of the trials have no embedding; the message shows up to five of them.
        """
        matrix = self._prepare(_matrix(embeddings, trials))
        enrolled, tested = (_used(i, len(matrix)) for i in (trials.enrol_index, trials.test_index))
        if self.compare == "cosine" and len(enrolled) * len(tested) <= _DENSE * len(trials):
            return _by_products(matrix, trials, enrolled, tested, max(1, chunk // len(tested)))
        scores = np.empty(len(trials), np.float32)
        step = max(1, chunk // matrix.shape[1])
        for start in range(0, len(trials), step):
            part = slice(start, start + step)
            scores[part] = self._pairs(matrix[trials.enrol_index[part]], matrix[trials.test_index[part]])
        return scores

    def _prepare(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """Return (N, D) embeddings ready for :meth:`_pairs`: of length 1 for the cosine."""
        if self.compare == "euclidean":
            return matrix
        unit: NDArray[Any] = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), _SHORTEST)
        return unit

    def _pairs(self, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
        """Return (N,) the scores of prepared embeddings (N, D), row by row."""
        if self.compare == "euclidean":
            difference = first - second
            return -_inner(difference, difference)
        return _inner(first, second)


def _inner(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return (N,) the inner products of the rows of two (N, D) matrices."""
    products: NDArray[Any] = np.einsum("nd,nd->n", first, second)
    return products


def _matrix(embeddings: Embeddings, trials: Trials) -> Floats:
    """Return (ids, D) the embedding of each id of the trials."""
    rows = embeddings.rows
    missing = [i for i in trials.ids if i not in rows]
    if missing:
        raise missing_ids(missing, len(trials.ids), trials.name)
    matrix: Floats = embeddings.matrix[np.array([rows[i] for i in trials.ids], np.int64)]
    return matrix


def _used(index: NDArray[np.int32], size: int) -> NDArray[np.intp]:
    """Return the sorted distinct values of an index below ``size``."""
    return np.flatnonzero(np.bincount(index, minlength=size))


def _by_products(
    matrix: Floats,
    trials: Trials,
    enrolled: NDArray[np.intp],
    tested: NDArray[np.intp],
    step: int,
) -> Floats:
    """Score ``step`` first sides at a time against all second sides, and keep the trials."""
    scores = np.empty(len(trials), np.float32)
    column = np.zeros(len(matrix), np.int64)  # column of each id in a product
    column[tested] = np.arange(len(tested))
    order = np.argsort(trials.enrol_index, kind="stable")
    side = trials.enrol_index[order]
    second = matrix[tested].T  # (D, tests)
    for start in range(0, len(enrolled), step):
        block = enrolled[start : start + step]
        part = order[np.searchsorted(side, block[0]) : np.searchsorted(side, block[-1], side="right")]
        row = np.searchsorted(block, trials.enrol_index[part])
        scores[part] = (matrix[block] @ second)[row, column[trials.test_index[part]]]
    return scores


def missing_ids(missing: list[str], total: int, name: str) -> CorpusError:
    """Return the error for trials with unknown utterances."""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return CorpusError(
        f"{len(missing)} of the {total} utterances in the trials {name!r} are unknown: {shown};"
        " names must be ids or paths in the manifest, or paths below the root folder: check the folder"
    )
