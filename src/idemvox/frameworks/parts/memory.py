"""A memory of negatives, by utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from idemvox.batch import Swap

__all__ = ["NegativeQueue"]


class NegativeQueue(nn.Module):
    """The embeddings of the last utterances, oldest overwritten first (MoCo's queue; He et al., 2020).

    It knows whose embeddings it holds, so that no anchor is pushed away from its own utterance, which a queue
    as long as a small corpus holds several times over. It begins empty.

    Args:
        size: number of embeddings.
        dim: width D of an embedding.
    """

    ids: Tensor
    """(size,) the utterance of each embedding, -1 for none."""
    vectors: Tensor
    """(size, D)."""
    position: Tensor
    """How many embeddings have been written."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("ids", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, ids: Tensor, vectors: Tensor) -> None:
        """Store the embeddings (B, D) of utterances (B,); of more than ``size`` the last ones."""
        ids, vectors = ids[-self.size :], vectors[-self.size :]
        slots = (self.position + torch.arange(len(ids), device=ids.device)) % self.size
        self.ids.index_copy_(0, slots, ids)
        self.vectors.index_copy_(0, slots, vectors.to(self.vectors.dtype))
        self.position += len(ids)

    def excluded(self, ids: Tensor, swap: Swap) -> Tensor:
        """Return which embeddings are no negatives of which utterances.

        Those are empty slots, embeddings of the utterance itself and of its pseudo-positive, and of all that
        the positive sampler calls related.

        Args:
            ids: (W B,) the utterances of a step, of all ranks.
            swap: what the positive sampler did with them.

        Returns:
            (W B, size).
        """
        excluded = (self.ids < 0) | (ids[:, None] == self.ids)
        if swap.chosen is not None:
            excluded |= swap.chosen[:, None] == self.ids  # -1, no single utterance, is in empty slots alone
        related = swap.related(ids, self.ids)
        return excluded if related is None else excluded | related
