"""Scores of trials from embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.embedder import Scoring
from idemvox.errors import CorpusError, ModelError
from idemvox.model import Model
from idemvox.verification.backend import BackEnd
from idemvox.verification.backend_file import load_backend
from idemvox.verification.embed import Embeddings
from idemvox.verification.normalisation import cohort_statistics, normalise
from idemvox.verification.trials import Trials

__all__ = ["Gallery", "Scorer", "missing_ids"]

Floats = NDArray[np.float32]

_WORDS: dict[Scoring, str] = {
    "cosine": "cosine",
    "euclidean": "minus squared Euclidean distance",
}
_SHORTEST = 1e-12  # a shorter embedding, such as one of zeros, has a cosine of about 0
_DENSE = 16  # most pairs of a first and a second side per trial for which all pairs are scored
_ROWS = 1 << 14  # embeddings prepared at a time


class _Side(NamedTuple):
    """N utterances ready to be compared.

    Attributes:
        vectors: (N, d) whose inner products, or distances, are the scores.
        offsets: (N,) added to every score of an utterance.
    """

    vectors: NDArray[Any]
    offsets: NDArray[Any]

    def rows(self, index: NDArray[np.integer[Any]] | slice) -> _Side:
        """Return the utterances of these rows."""
        return _Side(self.vectors[index], self.offsets[index])


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """N embeddings ready to be compared with many others; made by :meth:`Scorer.gallery`.

    Attributes:
        side: the embeddings, prepared.
        mean, deviation: (N,) of their scores against the cohort; 0 and 1 without one.
    """

    side: _Side
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mean)

    def rows(self, index: NDArray[np.integer[Any]]) -> Gallery:
        """Return the embeddings of these rows."""
        return Gallery(self.side.rows(index), self.mean[index], self.deviation[index])

    def joined(self, other: Gallery) -> Gallery:
        """Return these embeddings, then the other's, which must be of the same scorer."""
        return Gallery(
            _Side(
                np.concatenate([self.side.vectors, other.side.vectors]),
                np.concatenate([self.side.offsets, other.side.offsets]),
            ),
            np.concatenate([self.mean, other.mean]),
            np.concatenate([self.deviation, other.deviation]),
        )


@dataclass(frozen=True, slots=True)
class Scorer:
    """How two embeddings are compared; ``str(scorer)`` describes it.

    A score depends on the two embeddings alone: the same in any list, in any order, either way round.

    Attributes:
        compare: ``cosine``, in [-1, 1], or ``euclidean``, minus the squared distance, at most 0; higher means
            more similar.
        backend: what is applied before and after the comparison; ``None``: nothing.

    >>> Scorer("cosine").score([3, 0], [1, 1]), Scorer("euclidean").score([3, 0], [1, 1])
    (0.7071067811865475, -5.0)
    """

    compare: Scoring = "cosine"
    backend: BackEnd | None = None
    _cohort: _Side | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.compare not in _WORDS:
            raise ModelError(f"unknown scoring {self.compare!r}; have: {', '.join(_WORDS)}")
        cohort = None if self.backend is None else self.backend.cohort
        object.__setattr__(self, "_cohort", None if cohort is None else self._prepare(cohort.vectors))

    @classmethod
    def of(cls, model: Model) -> Scorer:
        """Return the scorer of a model, as its folder says: its comparison, and its back end if it has one.

        Raises:
            ModelError: the back end was fitted to another model, or is damaged.
        """
        return cls(model.scoring, load_backend(model.folder))

    def __str__(self) -> str:
        words = _WORDS[self.compare]
        return words if self.backend is None else self.backend.describe(words)

    def score(self, first: ArrayLike, second: ArrayLike) -> float:
        """Return the score of two embeddings (D,), or of two sets of crops (n, D), computed in float64."""
        side = self._prepare(np.array([first, second], np.float64))
        one, other = np.array([0]), np.array([1])
        scores = self._pairs(side.rows(one), side.rows(other))
        if self._cohort is not None:
            normalise(scores, one, other, *self._statistics(side))
        return float(scores[0])

    def scores(self, embeddings: Embeddings, trials: Trials, chunk: int = 1 << 20) -> Floats:
        """Return (T,) the scores of the trials.

        If inner products are needed for most pairs of a first and a second side, as in VOiCES, they are
        matrix products; otherwise trials are scored pair by pair. Each utterance meets the cohort once,
        however many trials it is in.

        Args:
            embeddings: must hold every id of the trials.
            trials: the pairs.
            chunk: scores (pair by pair: numbers in embeddings) computed at a time; affects memory only.

        Raises:
            CorpusError: ids of the trials have no embedding; the message shows up to five of them.
            ModelError: the back end was fitted on embeddings of another size.
        """
        side = self._prepare(embeddings.matrix, _rows(embeddings, trials))
        scores = self._raw(side, trials, chunk)
        if self._cohort is not None:
            normalise(scores, trials.enrol_index, trials.test_index, *self._statistics(side, chunk))
        return scores

    def gallery(self, matrix: Floats) -> Gallery:
        """Return embeddings (N, D) ready for :meth:`against`."""
        side = self._prepare(np.asarray(matrix, np.float32))
        if self._cohort is None:
            return Gallery(side, np.zeros(len(matrix)), np.ones(len(matrix)))
        return Gallery(side, *self._statistics(side))

    def against(self, embeddings: ArrayLike, gallery: Gallery) -> Floats:
        """Return (M, N) the scores of M embeddings (M, D) against a gallery of N, by one matrix product.

        They are those of :meth:`score` but for rounding, which is that of float32.
        """
        side = self._prepare(np.asarray(embeddings, np.float32))
        scores = self._all_pairs(side, gallery.side)
        if self._cohort is not None:
            mean, deviation = self._statistics(side)
            mine, theirs = 0.5 / deviation, 0.5 / gallery.deviation
            scores *= np.add.outer(mine, theirs).astype(np.float32)
            scores -= np.add.outer(mine * mean, theirs * gallery.mean).astype(np.float32)
        return scores

    def _raw(self, side: _Side, trials: Trials, chunk: int) -> Floats:
        """Return (T,) the scores before normalisation; ``side`` holds the ids of the trials."""
        enrolled, tested = (_used(i, len(side.vectors)) for i in (trials.enrol_index, trials.test_index))
        if not self._by_distance and len(enrolled) * len(tested) <= _DENSE * len(trials):
            return _by_products(side, trials, enrolled, tested, max(1, chunk // len(tested)))
        scores = np.empty(len(trials), np.float32)
        step = max(1, chunk // side.vectors.shape[1])
        for start in range(0, len(trials), step):
            part = slice(start, start + step)
            scores[part] = self._pairs(
                side.rows(trials.enrol_index[part]), side.rows(trials.test_index[part])
            )
        return scores

    def _prepare(self, matrix: NDArray[Any], rows: NDArray[np.int64] | None = None) -> _Side:
        """Return embeddings (N, D), or of crops (N, n, D), ready to be compared, in their precision.

        ``rows`` chooses some; of a memory-mapped matrix, only these are read, a part at a time.

        Scores are linear in each side, so the mean over all pairs of crops is the score of mean vectors.
        """
        dim = matrix.shape[-1] if self.backend is None else self.backend.dim or matrix.shape[-1]
        if matrix.shape[-1] != dim:
            raise ModelError(
                f"the back end was fitted on embeddings of {dim} numbers, these have {matrix.shape[-1]}: fit "
                "it again with `idemvox backend`"
            )
        plda = None if self.backend is None else self.backend.plda
        count = len(matrix) if rows is None else len(rows)
        vectors = np.empty((count, dim if plda is None else len(plda.mean)), matrix.dtype)
        offsets = np.zeros(count, matrix.dtype)
        crops = matrix.shape[1] if matrix.ndim == 3 else 1
        step = max(1, _ROWS // crops)
        for start in range(0, count, step):
            part = slice(start, start + step)
            chosen = matrix[part if rows is None else rows[part]]
            ready, offset = self._ready(chosen.reshape(-1, dim))
            if crops > 1:
                ready, offset = self._mean(
                    ready.reshape(-1, crops, ready.shape[1]), offset.reshape(-1, crops)
                )
            vectors[part], offsets[part] = ready, offset
        return _Side(vectors, offsets)

    def _ready(self, vectors: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return embeddings (N, D) as vectors (N, d) and offsets (N,)."""
        if self.backend is not None and self.backend.mean is not None:
            vectors = vectors - self.backend.mean
        if self.backend is not None and self.backend.plda is not None:
            return self.backend.plda.ready(vectors)
        return vectors if self._by_distance else _unit(vectors), np.zeros(len(vectors), vectors.dtype)

    def _mean(self, vectors: NDArray[Any], offsets: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (N, d) and (N,) the means of crops (N, n, d) and their offsets (N, n).

        The mean squared distance between two sets is that of their means, plus the variance within each.
        """
        mean, offset = vectors.mean(axis=1), offsets.mean(axis=1)
        if self._by_distance:
            offset = offset - ((vectors - mean[:, None]) ** 2).sum(axis=2).mean(axis=1)
        return mean, offset

    @property
    def _by_distance(self) -> bool:
        """Whether scores are distances; otherwise they are inner products."""
        return self.compare == "euclidean" and (self.backend is None or self.backend.plda is None)

    def _pairs(self, first: _Side, second: _Side) -> NDArray[Any]:
        """Return (N,) the scores of utterances row by row."""
        if self._by_distance:
            difference = first.vectors - second.vectors
            between = -_inner(difference, difference)
        else:
            between = _inner(first.vectors, second.vectors)
        between += first.offsets + second.offsets
        return between

    def _all_pairs(self, first: _Side, second: _Side) -> Floats:
        """Return (M, N) the scores of M utterances against N, in float32, before normalisation."""
        one, other = (side.vectors.astype(np.float32, copy=False) for side in (first, second))
        scores: Floats = one @ other.T
        if self._by_distance:
            scores *= 2
            scores -= np.add.outer(_inner(one, one), _inner(other, other))
        scores += np.add.outer(*(side.offsets.astype(np.float32, copy=False) for side in (first, second)))
        return scores

    def _statistics(
        self, side: _Side, chunk: int = 1 << 20
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (N,) the means and deviations of scores against the cohort, ``chunk`` at a time."""
        cohort, backend = self._cohort, self.backend
        if cohort is None or backend is None or backend.cohort is None:
            raise ModelError("this scorer has no cohort")
        step = max(1, chunk // len(cohort.vectors))
        means, deviations = np.empty(len(side.vectors)), np.empty(len(side.vectors))
        for start in range(0, len(means), step):
            part = slice(start, start + step)
            scores = self._all_pairs(side.rows(part), cohort)
            means[part], deviations[part] = cohort_statistics(scores, backend.cohort.top)
        return means, deviations


def _unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Return vectors (..., D) at length 1."""
    unit: NDArray[Any] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _SHORTEST)
    return unit


def _inner(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return (N,) the inner products of the rows of two (N, D) matrices."""
    products: NDArray[Any] = np.einsum("nd,nd->n", first, second)
    return products


def _rows(embeddings: Embeddings, trials: Trials) -> NDArray[np.int64]:
    """Return the row of each id of the trials."""
    rows = embeddings.rows
    missing = [i for i in trials.ids if i not in rows]
    if missing:
        raise missing_ids(missing, len(trials.ids), trials.name)
    return np.array([rows[i] for i in trials.ids], np.int64)


def _used(index: NDArray[np.int32], size: int) -> NDArray[np.intp]:
    """Return the sorted distinct values of an index below ``size``."""
    return np.flatnonzero(np.bincount(index, minlength=size))


def _by_products(
    side: _Side, trials: Trials, enrolled: NDArray[np.intp], tested: NDArray[np.intp], step: int
) -> Floats:
    """Score ``step`` first sides at a time against all second sides, and keep the trials."""
    scores = np.empty(len(trials), np.float32)
    column = np.zeros(len(side.vectors), np.int64)  # column of each id in a product
    column[tested] = np.arange(len(tested))
    order = np.argsort(trials.enrol_index, kind="stable")
    ordered = trials.enrol_index[order]
    second = side.vectors[tested].T  # (D, tests)
    for start in range(0, len(enrolled), step):
        block = enrolled[start : start + step]
        part = order[np.searchsorted(ordered, block[0]) : np.searchsorted(ordered, block[-1], side="right")]
        row, test = np.searchsorted(block, trials.enrol_index[part]), trials.test_index[part]
        products = (side.vectors[block] @ second)[row, column[test]]
        scores[part] = products + side.offsets[trials.enrol_index[part]] + side.offsets[test]
    return scores


def missing_ids(missing: list[str], total: int, name: str) -> CorpusError:
    """Return the error for trials with unknown utterances."""
    shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
    return CorpusError(
        f"{len(missing)} of the {total} utterances in the trials {name!r} are unknown: {shown};"
        " names must be ids or paths in the manifest, or paths below the root folder: check the folder"
    )
