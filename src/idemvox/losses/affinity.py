"""Generalised contrastive loss, for any mixture of known and unknown labels: pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single

__all__ = ["affinities", "generalised_contrastive"]


def affinities(ids: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return (2B, 2B) whether two embeddings, from two views of B utterances, are a positive pair.

    They are if they have the same utterance or the same label. The diagonal is false.

    Args:
        ids: (B,) utterance ids.
        labels: (B,), below 0 where unknown; ``None`` if all are unknown.

    >>> affinities(torch.tensor([0, 1]), torch.tensor([4, 4])).int().tolist()[0]
    [0, 1, 1, 1]
    """
    same = ids[:, None] == ids
    if labels is not None:
        same = same | ((labels[:, None] == labels) & (labels >= 0))
    return same.repeat(2, 2).fill_diagonal_(False)


def generalised_contrastive(
    embedding: Tensor,
    affinity: Tensor,
    temperature: float = 0.1,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Generalised contrastive loss, GCL: the idea of Inoue & Goto (2020), this form a reconstruction.

    ``-1/N sum_i sum_j a_ij / sum_k a_ik log( exp(s_ij / t) / sum_{k != i} exp(s_ik / t) )`` with cosine
    similarity s. If only the two views of an utterance are positive pairs, this is NT-Xent.

    Args:
        embedding: (N, D), of any norm.
        affinity: (N, N) weight of the embedding j as a positive of the embedding i, at least 0, with a
            positive sum in each row; the diagonal is ignored.
        temperature: t.
        leave_out: (N, N) whether to exclude the embedding j from the denominator of i; ignored for positives.
        reduction: ``"mean"``, or ``"none"`` for the loss of each embedding.

    Returns:
        Scalar, the mean over the N embeddings; or (N,).
    """
    with torch.autocast(embedding.device.type, enabled=False):
        unit = F.normalize(single(embedding), dim=1)
        self_pairs = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        weight = affinity.to(unit.dtype).masked_fill(self_pairs, 0.0)
        excluded = self_pairs if leave_out is None else self_pairs | (leave_out & (weight == 0))
        logits = unit @ unit.T / temperature
        log_share = logits - logits.masked_fill(excluded, float("-inf")).logsumexp(1, keepdim=True)
        rows: Tensor = -(weight * log_share).sum(1) / weight.sum(1)  # (N,)
        return rows.mean() if reduction == "mean" else rows
