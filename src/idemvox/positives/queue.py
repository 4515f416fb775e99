"""A queue of embeddings, one per utterance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idemvox.batch import Swap
from idemvox.devices import is_free_to_read

__all__ = ["EmbeddingQueue", "write_rows"]

_BLOCK = 1 << 24  # numbers held at once by a search: 64 MiB in fp32


@torch.no_grad()
def write_rows(table: Tensor, rows: Tensor, values: Tensor) -> None:
    """Write ``values`` (B, D) into the distinct ``rows`` (B,) of an fp32 ``table`` (R, D)."""
    values = values.detach().to(table.dtype).contiguous()
    if table.is_cpu and table.shape[1] % 4 == 0:  # it copies element by element: make them wide
        table, values = table.view(torch.complex128), values.view(torch.complex128)
    table.index_copy_(0, rows, values)


class EmbeddingQueue(nn.Module):
    """The newest embeddings, at most one per utterance; the oldest is overwritten first.

    With a slot for every utterance it is a table of the newest embedding of each. Entries are never erased:
    a slot is valid while its utterance's ``slot_of`` names it, see :attr:`held`.

    Args:
        size: number of slots.
        dim: width D of an embedding.
        utterances: number N of utterances in the manifest.
    """

    ids: Tensor
    """(size,) the utterance that was last stored in each slot, -1 for none."""
    slot_of: Tensor
    """(N,) the slot in which each utterance was last stored, -1 for none."""
    vectors: Tensor
    """(size, D) the embeddings, in fp32."""

    def __init__(self, size: int, dim: int, utterances: int) -> None:
        super().__init__()
        self.size = min(size, utterances)
        self.is_table = self.size == utterances
        self.register_buffer("ids", torch.full((self.size,), -1, dtype=torch.int64))
        self.register_buffer("slot_of", torch.full((utterances,), -1, dtype=torch.int64))
        self.register_buffer("vectors", torch.zeros(self.size, dim))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))
        self.position: Tensor
        self._position: int | None = None

    @torch.no_grad()
    def push(self, ids: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Store the finite ones of ``vectors`` (B, D), of the distinct utterances ``ids`` (B,).

        The slot for a vector that is not finite keeps its entry. The host reads no result, so it does not
        wait for the device.

        Returns:
            The utterances in the slots after writing, -1 for none, and the slots.
        """
        vectors = vectors.detach().to(self.vectors.dtype)
        if self.is_table:
            slots = ids
        else:
            ids, vectors = ids[-self.size :], vectors[-self.size :]
            start = self._next_slot()
            slots = torch.arange(start, start + len(ids), device=ids.device) % self.size
            self.position += len(ids)
            self._position = start + len(ids)
        finite = vectors.sum(1).isfinite()
        if not is_free_to_read(vectors) or not finite.all():
            vectors = torch.where(finite[:, None], vectors, self.vectors[slots])
            now = torch.where(finite, ids, self.ids[slots])
            self.slot_of[ids] = torch.where(finite, slots, self.slot_of[ids])
        else:
            now = ids
            self.slot_of[ids] = slots
        write_rows(self.vectors, slots, vectors)
        self.ids[slots] = now
        return now, slots

    def _next_slot(self) -> int:
        """Return the slot to write next, from a number on the host, without waiting for the device."""
        if self._position is None:
            self._position = int(self.position)
        return self._position % self.size

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._position = None

    def find(self, ids: Tensor) -> Tensor:
        """Return the slots of these utterances (B,), -1 for those that are not stored."""
        slot = self.slot_of[ids]
        return torch.where(self.ids[slot] == ids, slot, -1)

    def holds(self, slots: Tensor) -> Tensor:
        """Return which of these slots hold the newest embedding of an utterance."""
        return self.slot_of[self.ids[slots]] == slots  # id -1 reads the last utterance's, never an empty slot

    @property
    def held(self) -> Tensor:
        """(size,) which slots hold the newest embedding of an utterance."""
        return self.holds(torch.arange(self.size, device=self.ids.device))

    @torch.no_grad()
    def nearest(self, ids: Tensor, vectors: Tensor) -> Tensor:
        """Find for each vector the most similar stored embedding (cosine) of another utterance.

        The search runs in fp32, even under autocast, on one block of the queue at a time.

        Args:
            ids: (B,) the utterances of the vectors, whose stored embeddings are left out.
            vectors: (B, D) of any norm.

        Returns:
            (B,) slots, -1 where no other utterance is stored.
        """
        query, itself, held = vectors.to(self.vectors.dtype), self.find(ids), self.held
        best = query.new_full((len(ids),), float("-inf"))
        slot = torch.full_like(ids, -1)
        rows = max(1, _BLOCK // max(len(ids), self.vectors.shape[1]))
        for start in range(0, self.size, rows):
            with torch.autocast(query.device.type, enabled=False):
                score = query @ F.normalize(self.vectors[start : start + rows], dim=1).T  # (B, rows)
            score.masked_fill_(~held[start : start + rows], float("-inf"))
            column = (itself - start).clamp(0, score.shape[1] - 1)[:, None]
            here = itself[:, None] == column + start
            score.scatter_(1, column, score.gather(1, column).masked_fill_(here, float("-inf")))
            value, place = score.max(dim=1)
            better = value > best
            best, slot = torch.where(better, value, best), torch.where(better, place + start, slot)
        return slot

    def put_in(self, slots: Tensor, targets: Tensor) -> Swap:
        """Replace targets (B, D) by the embeddings in ``slots`` (B,); a slot of -1 keeps the target."""
        replaced, filled = slots >= 0, slots.clamp_min(0)
        chosen = torch.where(replaced, self.ids[filled], -1)
        stored = self.vectors.index_select(0, filled).to(targets.dtype)
        swapped = torch.lerp(targets, stored, replaced[:, None].to(targets.dtype))  # exact at 0 and 1
        return Swap(swapped, replaced, chosen, targets.detach())

    @property
    def filled(self) -> float:
        """The share of slots in use."""
        return float(self.held.float().mean())
