"""The back end of a model: what is fitted on embeddings, and applied when two are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import ModelError
from idemvox.verification.plda import Plda

__all__ = ["BackEnd", "Cohort"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Strangers that S-norm and AS-norm compare with.

    Attributes:
        vectors: (C, D) their embeddings, as the encoder gives them.
        top: AS-norm: the highest so many scores of a recording against them count; ``None``: all (S-norm).
        of: what a row stands for: ``utterances``, which needs no labels, or ``speakers``, the mean
            embedding of each.
    """

    vectors: Floats
    top: int | None = None
    of: str = "utterances"

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) < 2 or (self.top is not None and self.top < 2):
            raise ModelError(
                f"a cohort needs 2 rows or more, of which 2 or more count; got {self.vectors.shape}, top "
                f"{self.top}: give more {self.of}"
            )

    def __str__(self) -> str:
        size = f"{len(self.vectors):,} {self.of}"
        if self.top is None or self.top >= len(self.vectors):
            return f"S-norm ({size})"
        return f"AS-norm (top {self.top:,} of {size})"


@dataclass(frozen=True, slots=True, eq=False)
class BackEnd:
    """What is applied to embeddings before they are compared, and to scores after.

    Attributes:
        mean: (D,) is subtracted from every embedding; ``None``: nothing is.
        cohort: normalises scores; ``None``: they are not normalised.
        plda: compares, instead of the model's own comparison.
        provenance: what it was fitted on, for reports.
    """

    mean: Floats | None = None
    cohort: Cohort | None = None
    plda: Plda | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self._dims) > 1:
            raise ModelError(
                f"mean, PLDA and cohort are of embeddings of {' and '.join(map(str, sorted(self._dims)))} "
                "numbers: take all from the same encoder"
            )

    @property
    def _dims(self) -> set[int]:
        mean = set() if self.mean is None else {len(self.mean)}
        plda = set() if self.plda is None else {self.plda.dim}
        return mean | plda | (set() if self.cohort is None else {self.cohort.vectors.shape[1]})

    @property
    def dim(self) -> int | None:
        """Numbers in an embedding, D; ``None`` if nothing was fitted."""
        return next(iter(self._dims), None)

    def describe(self, comparison: str) -> str:
        """Return how scores come about, in words; ``comparison`` is the model's own."""
        if self.plda is not None:
            words = f"PLDA log-likelihood ratio ({self.plda.of})"
        else:
            words = comparison if self.mean is None else f"mean-subtracted {comparison}"
        return words if self.cohort is None else f"{self.cohort} of the {words}"

    def known(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's provenance with the back end's, and the labels that either knew."""
        both = {*provenance.get("known", ()), *self.provenance.get("known", ())}
        return {**provenance, "known": sorted(both), "backend": self.provenance}
