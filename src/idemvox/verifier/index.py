"""An approximate index of a roster, for stores that one matrix product is too slow for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import StoreError
from idemvox.verification.scoring import Scorer
from idemvox.verifier.roster import Roster, Row

__all__ = ["Shortlist"]


class Shortlist:
    """The rows of a roster that may match best, by a graph of neighbours (HNSW, from usearch).

    The order of the shortlist is that of the inner products, or distances, of prepared embeddings; score
    normalisation may change it, so take a long one. New rows are added to the graph; it is built anew when
    the roster is tidied. Not for several threads at once.

    Raises:
        StoreError: the extra ``index`` is not installed.
    """

    def __init__(self, scorer: Scorer) -> None:
        try:
            from usearch.index import Index
        except ImportError as error:
            raise StoreError("an approximate index needs an extra: pip install 'idemvox[index]'") from error
        self._made = Index
        self._metric = "ip" if scorer.compare == "cosine" else "l2sq"
        self._scorer = scorer
        self._index: Any = None
        self._of: list[Row] | None = None

    def rows(self, roster: Roster, embedding: ArrayLike, count: int) -> NDArray[np.intp]:
        """Return about ``count`` rows in use that are nearest to an embedding (D,)."""
        probe = self._scorer.gallery(np.asarray(embedding, np.float32)[None]).side.vectors[0]
        if self._of is not roster.rows:
            self._index, self._of = self._made(ndim=len(probe), metric=self._metric, dtype="f32"), roster.rows
        start = 0
        for gallery in roster.galleries:
            vectors = gallery.side.vectors
            known = max(0, len(self._index) - start)
            if known < len(vectors):
                keys = np.arange(start + known, start + len(vectors), dtype=np.uint64)
                self._index.add(keys, vectors[known:], threads=1)
            start += len(vectors)
        unused = len(roster.used) - len(roster.order)
        found = np.asarray(self._index.search(probe, count + unused, threads=1).keys, np.intp)
        found = found[found < len(roster.used)]  # a later roster may have added more
        return found[roster.used[found]][:count]
