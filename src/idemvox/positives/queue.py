"""A memory queue of embeddings by utterance."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["EmbeddingQueue"]

_BLOCK = 1 << 24  # numbers held at once by a search: 64 MiB in fp32


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
        """Store those of ``vectors`` (B, D), of the distinct utterances ``ids`` (B,), that are finite."""
        finite = vectors.sum(1, dtype=torch.float32).isfinite()
        if not finite.all():
            ids, vectors = ids[finite], vectors[finite]
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
        self.vectors.index_copy_(0, slots, vectors.detach().to(self.vectors.dtype))

    @torch.no_grad()
    def nearest(self, ids: Tensor, vectors: Tensor) -> Tensor:
        """Find what is stored of another utterance and most similar (cosine), for each of ``vectors`` (B, D).

        The search is in fp32 whatever the autocast, a block of the queue at a time.

        Args:
            ids: (B,) their utterances, whose own embeddings are passed over.
            vectors: of any norm.

        Returns:
            (B,) slots, -1 where nothing is stored of any other utterance.
        """
        query, own = vectors.to(self.vectors.dtype), self.slot_of[ids]
        best = query.new_full((len(ids),), float("-inf"))
        slot = torch.full_like(ids, -1)
        rows = max(1, _BLOCK // max(len(ids), self.vectors.shape[1]))
        for start in range(0, self.size, rows):
            held = self.ids[start : start + rows] >= 0
            with torch.autocast(query.device.type, enabled=False):
                score = query @ F.normalize(self.vectors[start : start + rows], dim=1).T  # (B, rows)
            score.masked_fill_(~held, float("-inf"))
            inside = ((own >= start) & (own < start + rows)).nonzero().flatten()
            score[inside, own[inside] - start] = float("-inf")
            value, place = score.max(dim=1)
            better = value > best
            best, slot = torch.where(better, value, best), torch.where(better, place + start, slot)
        return slot

    @property
    def filled(self) -> float:
        """Share of the slots in use."""
        return float((self.ids >= 0).float().mean())
