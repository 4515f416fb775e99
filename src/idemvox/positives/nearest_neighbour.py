"""The nearest stored embedding as the positive: NNCLR."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from idemvox.batch import Swap
from idemvox.errors import RecipeError
from idemvox.positives.base import Positives, Setting
from idemvox.positives.queue import EmbeddingQueue
from idemvox.registry import POSITIVES, Memory

__all__ = ["NearestNeighbour"]


@POSITIVES.register("nearest_neighbour")
class NearestNeighbour(Positives):
    """Replace the positive's embedding by the most similar one (cosine) stored of any other utterance.

    NNCLR (Dwibedi et al., 2021).  It makes neither references nor clusters.
    """

    needs_fill = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """``queue``: how many embeddings are stored; ``refresh``: fill it again before every epoch."""

        queue: Memory[int] = 25_000
        refresh: bool = False

        def __post_init__(self) -> None:
            if self.queue < 1:
                raise RecipeError(f"positives.queue is 1 or more, not {self.queue}")

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        self.refresh = options.refresh
        self.queue = EmbeddingQueue(options.queue, setting.embedding_dim, setting.utterances)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        return {"queue_filled": self.queue.filled}

    def store(self, ids: Tensor, targets: Tensor) -> None:
        self.queue.push(ids, targets)

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        return self.queue.put_in(self.queue.nearest(ids, targets), targets)
