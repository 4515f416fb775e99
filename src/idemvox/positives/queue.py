"""A memory queue of embeddings by utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["EmbeddingQueue"]


class EmbeddingQueue(nn.Module):
    """The last embeddings seen, at most one of each utterance, oldest overwritten first.

    With room for every utterance it is a table that always holds the newest embedding of each.

    Args:
        size: slots.
        dim: width D of an embedding.
        utterances: N, of the manifest.
    """

    ids: Tensor
    """(size,) the utterance in each slot, -1 for none."""
    slot_of: Tensor
    """(N,) the slot that holds each utterance, -1 for none."""
    vectors: Tensor
    """(size, D) fp32."""

    def __init__(self, size: int, dim: int, utterances: int) -> None:
        super().__init__()
        self.size = min(size, utterances)
        self.is_table = self.size == utterances
        self.register_buffer("ids", torch.full((self.size,), -1, dtype=torch.int64))
        self.register_buffer("slot_of", torch.full((utterances,), -1, dtype=torch.int64))
        self.register_buffer("vectors", torch.zeros(self.size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.position: Tensor

    @torch.no_grad()
    def push(self, ids: Tensor, vectors: Tensor) -> None:
        """Store ``vectors`` (B, D) of the distinct utterances ``ids`` (B,)."""
        if self.is_table:
            slots = ids
        else:
            ids, vectors = ids[-self.size :], vectors[-self.size :]
            slots = (self.position + torch.arange(len(ids), device=ids.device)) % self.size
            self.position += len(ids)
            evicted = self.ids[slots]
            self.slot_of[evicted[evicted >= 0]] = -1
            older = self.slot_of[ids]
            self.ids[older[older >= 0]] = -1  # a newer embedding of the same utterance arrives
        self.ids[slots] = ids
        self.slot_of[ids] = slots
        self.vectors[slots] = vectors.detach().to(self.vectors.dtype)

    @property
    def filled(self) -> float:
        """Share of the slots in use."""
        return float((self.ids >= 0).float().mean())
