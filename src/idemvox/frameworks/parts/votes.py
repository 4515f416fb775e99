"""The last labels of each utterance, and what most of them say."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LabelQueue", "vote"]


class LabelQueue(nn.Module):
    """The last labels that each utterance was given, oldest overwritten first.

    Args:
        utterances: number N of utterances.
        length: labels of each, L.
    """

    labels: Tensor
    """(N, L), the newest first; -1 for none."""

    def __init__(self, utterances: int, length: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.full((utterances, length), -1))

    @torch.no_grad()
    def push(self, ids: Tensor, labels: Tensor) -> None:
        """Add a label (B,) to distinct utterances (B,)."""
        self.labels[ids] = torch.cat([labels[:, None], self.labels[ids, :-1]], dim=1)

    def vote(self, ids: Tensor) -> Tensor:
        """Return (B,) the label that most entries of each utterance have; -1 without entries."""
        return vote(self.labels[ids])


def vote(labels: Tensor) -> Tensor:
    """Return (B,) the most frequent label of each row (B, L), the newest of equally frequent ones.

    Args:
        labels: the newest first; -1 for none. A row of -1 gives -1.
    """
    same = (labels[:, :, None] == labels[:, None, :]) & (labels >= 0)[:, None, :]
    return labels.gather(1, same.sum(2).argmax(1, keepdim=True))[:, 0]
