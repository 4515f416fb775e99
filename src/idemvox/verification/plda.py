"""PLDA: the log-likelihood ratio of "same speaker" in a Gaussian model of speakers and recordings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from idemvox.errors import CorpusError

__all__ = ["Plda", "fit_lda", "fit_plda", "log_likelihood"]

Matrix = NDArray[np.float64]

_SHORTEST = 1e-12
_FLOOR = 1e-6  # of the mean variance, added within classes: every direction has some
_BLOCK = 1 << 14  # rows in float64 at once


@dataclass(frozen=True, eq=False)
class Plda:
    """The two-covariance model of speakers, after an optional projection and length normalisation.

    An embedding of speaker i is y_i + e, with y_i ~ N(mean, between) and e ~ N(0, within) (Brummer & de
    Villiers, Odyssey 2010, "The speaker partitioning problem"; Sizov, Lee & Kinnunen, 2014).

    Attributes:
        mean: (d,) mean of all speakers.
        between: (d, d) covariance of the speakers.
        within: (d, d) covariance of one speaker's embeddings.
        lda: (D, d) projects embeddings first; ``None``: d = D.
        unit_length: whether embeddings are then brought to length 1 (Garcia-Romero & Espy-Wilson, 2011).
        of: what the classes were, for reports: ``speakers`` or ``pseudo-speakers``, with their number.
    """

    mean: Matrix
    between: Matrix
    within: Matrix
    lda: Matrix | None = None
    unit_length: bool = True
    of: str = "speakers"

    @property
    def dim(self) -> int:
        """Numbers in an embedding, D."""
        return len(self.mean) if self.lda is None else len(self.lda)

    @cached_property
    def axes(self) -> tuple[Matrix, Matrix]:
        """(d, d) axes along which ``within`` is 1, and (d,) the variances of ``between`` along them."""
        ratio, axes = eigh(self.between, self.within)
        return axes, np.maximum(ratio, 0.0)

    def project(self, vectors: NDArray[Any]) -> Matrix:
        """Return centred embeddings (N, D) in the space of the model, (N, d)."""
        inside = np.asarray(vectors, np.float64)
        if self.lda is not None:
            inside = inside @ self.lda
        return _unit(inside) if self.unit_length else inside

    def ready(self, vectors: NDArray[Any]) -> tuple[Matrix, Matrix]:
        r"""Return (N, d) vectors and (N,) offsets that make every score one inner product.

        Along each axis a recording is z, and its speaker has variance :math:`\psi` where the recordings of
        one speaker have 1. The log of p(z, z' | same speaker) / (p(z) p(z')) is

        .. math:: \frac{\psi z z'}{1 + 2 \psi} - \frac{\psi^2 (z^2 + z'^2)}{2 (1 + \psi) (1 + 2 \psi)}
            + \log(1 + \psi) - \frac{1}{2} \log(1 + 2 \psi)

        The score of two recordings is the sum over axes: vector times vector, plus both offsets.
        """
        axes, ratio = self.axes
        inside = (self.project(vectors) - self.mean) @ axes
        weight = ratio**2 / (2 * (1 + ratio) * (1 + 2 * ratio))
        constant = (np.log1p(ratio) - 0.5 * np.log1p(2 * ratio)).sum() / 2
        return inside * np.sqrt(ratio / (1 + 2 * ratio)), constant - inside**2 @ weight


@dataclass(frozen=True, slots=True)
class _Classes:
    """What EM needs to know of N rows in K classes: sizes (K,), means (K, d), scatter (d, d) within."""

    sizes: Matrix
    means: Matrix
    scatter: Matrix


def _classes(rows: NDArray[Any], labels: NDArray[np.integer[Any]]) -> _Classes:
    """Return the statistics of rows (N, d) with labels (N,)."""
    names, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2 or len(names) == len(rows):
        raise CorpusError(
            f"{len(rows):,} utterances in {len(names):,} classes cannot describe speakers: there must be 2 "
            "classes or more, one of them with 2 utterances"
        )
    means, scatter = np.zeros((len(names), rows.shape[1])), np.zeros((rows.shape[1], rows.shape[1]))
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(rows), _BLOCK)]
    for part in blocks:
        np.add.at(means, index[part], rows[part].astype(np.float64))
    means /= sizes[:, None]
    for part in blocks:
        apart = rows[part] - means[index[part]]
        scatter += apart.T @ apart
    centred = means - rows.mean(axis=0, dtype=np.float64)
    variance = (np.trace(scatter) + sizes @ (centred**2).sum(axis=1)) / rows.size
    scatter += max(_FLOOR * variance, 1e-300) * len(rows) * np.eye(rows.shape[1])
    return _Classes(sizes.astype(np.float64), means, scatter)


def fit_lda(rows: NDArray[Any], labels: NDArray[np.integer[Any]], dim: int) -> Matrix:
    """Return (D, d) the directions that tell classes apart best: Fisher's linear discriminant analysis.

    Args:
        rows: (N, D) embeddings.
        labels: (N,) class of each.
        dim: d; at most D and one less than the number of classes, or so many are returned.
    """
    classes = _classes(rows, labels)
    apart = classes.means - rows.mean(axis=0, dtype=np.float64)
    between = (apart * classes.sizes[:, None]).T @ apart
    axes: Matrix = eigh(between, classes.scatter / len(rows))[1][:, ::-1]  # the best first
    return np.ascontiguousarray(axes[:, : min(dim, len(classes.sizes) - 1)])


def fit_plda(
    rows: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    *,
    lda: int | None = None,
    unit_length: bool = True,
    iterations: int = 20,
    of: str = "speakers",
) -> Plda:
    """Fit PLDA by expectation and maximisation; no iteration lowers the likelihood.

    The covariances are made diagonal together in each iteration, so that classes of all sizes are matrix
    products: O(K d^2 + d^3) for K classes, whatever the number of rows.

    Args:
        rows: (N, D) embeddings, the mean subtracted.
        labels: (N,) class of each: speakers, or clusters that stand for them.
        lda: numbers to project to first; ``None``: no projection.
        unit_length: bring embeddings to length 1 first.
        iterations: of EM.
        of: what the classes are, for reports.

    Raises:
        CorpusError: there are fewer than 2 classes, or none has 2 rows.
    """
    projection = None if lda is None else fit_lda(rows, labels, lda)
    width = rows.shape[1] if projection is None else projection.shape[1]
    empty = Plda(np.zeros(width), np.eye(width), np.eye(width), projection, unit_length, of)
    inside = np.empty((len(rows), width), np.float32 if rows.dtype == np.float32 else np.float64)
    for start in range(0, len(rows), _BLOCK):
        inside[start : start + _BLOCK] = empty.project(rows[start : start + _BLOCK])
    classes = _classes(inside, labels)
    mean = classes.means.mean(axis=0)
    apart = classes.means - mean
    between, within = apart.T @ apart / len(apart), classes.scatter / len(rows)
    model = Plda(mean, between, within, projection, unit_length, of)
    for _ in range(iterations):
        model = _improve(model, classes)
    return model


def _improve(model: Plda, classes: _Classes) -> Plda:
    """Return the model after one iteration of EM."""
    axes, ratio = model.axes
    back = axes.T @ model.within  # the inverse of the axes
    n = classes.sizes[:, None]
    seen = (classes.means - model.mean) @ axes  # (K, d)
    variance = ratio / (1 + n * ratio)  # of each class's y, given its rows
    y = n * variance * seen  # its mean
    centre = y.mean(axis=0)
    between = (y - centre).T @ (y - centre) / len(y) + np.diag(variance.mean(axis=0))
    left = seen - y
    within = axes.T @ classes.scatter @ axes + (left * n).T @ left + np.diag((n * variance).sum(axis=0))
    within /= classes.sizes.sum()
    return Plda(
        model.mean + centre @ back,
        _symmetric(back.T @ between @ back),
        _symmetric(back.T @ within @ back),
        model.lda,
        model.unit_length,
        model.of,
    )


def log_likelihood(model: Plda, rows: NDArray[Any], labels: NDArray[np.integer[Any]]) -> float:
    """Return the log-likelihood of rows (N, D) and their classes, which EM raises."""
    classes = _classes(model.project(rows), labels)
    axes, ratio = model.axes
    n, total = classes.sizes[:, None], classes.sizes.sum()
    spread = 1 + n * ratio  # variance of n times a class's mean, over n
    seen = (classes.means - model.mean) @ axes
    exponent = np.sum(axes * (classes.scatter @ axes)) + (n * seen**2 / spread).sum()
    volume = np.linalg.slogdet(model.within)[1]
    constant = total * (len(ratio) * np.log(2 * np.pi) + volume) + np.log(spread).sum()
    return float(-0.5 * (constant + exponent))


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def _unit(rows: Matrix) -> Matrix:
    unit: Matrix = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _SHORTEST)
    return unit
