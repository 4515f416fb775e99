"""Embeddings by utterance id, in memory or memory-mapped."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import IdemvoxError

__all__ = ["SPEECH", "WHOLE", "Embeddings", "Floats"]

Floats = NDArray[np.float32]
WHOLE, SPEECH = "whole utterances", "speech alone"


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """One vector per utterance id, or one per crop.

    Attributes:
        matrix: (N, D) output of the encoder, not normalised; (N, n, D) for n crops of each utterance. It may
            be memory-mapped; then rows are read from the disk when they are used.
        of: what was embedded, for reports.
        rows: row of each id.
    """

    ids: tuple[str, ...]
    matrix: Floats
    of: str = WHOLE
    rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows = {name: row for row, name in enumerate(self.ids)}
        if self.matrix.ndim not in (2, 3) or len(self.matrix) != len(self.ids) or len(rows) != len(self.ids):
            raise IdemvoxError(
                f"{len(self.ids)} ids must all differ and have one row each; got {self.matrix.shape}"
            )
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, utterance: str) -> Floats:
        """(D,) embedding of one utterance; (n, D) of its crops."""
        if utterance not in self.rows:
            raise IdemvoxError(f"there is no embedding of {utterance!r} among these {len(self)}")
        vector: Floats = self.matrix[self.rows[utterance]]
        return vector
