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
    """Replace the positive's embedding by the most similar stored one (cosine) of another utterance.

    As in NNCLR (Dwibedi et al., 2021). It needs neither references nor clusters.
    """

    needs_fill = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the queue.

        Attributes:
            queue: number of stored embeddings.
            refresh: whether to fill the queue again before every epoch.
        """

        queue: Memory[int] = 25_000
        refresh: bool = False

        def __post_init__(self) -> None:
            if self.queue < 1:
                raise RecipeError(f"positives.queue must be at least 1, not {self.queue}")

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
