"""Contrastive loss with negatives from a memory: a pure function of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single, with_margin

__all__ = ["memory_nce"]


def memory_nce(
    query: Tensor,
    key: Tensor,
    negatives: Tensor,
    temperature: float = 0.03,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
    margin: float = 0.0,
    angular: bool = False,
) -> Tensor:
    """Contrastive loss of MoCo (He et al., 2020, eq. 1): one positive, and the negatives of a memory.

    ``-log( exp(s(q, k) / t) / (exp(s(q, k) / t) + sum_j exp(s(q, n_j) / t)) )`` with cosine similarity s.

    Args:
        query: (B, D) anchors, of any norm.
        key: (B, D) their positives.
        negatives: (Q, D), the same ones for all anchors.
        temperature: t.
        leave_out: (B, Q) which negatives not to compare an anchor with; without any its loss is 0.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.
        margin, angular: as for :func:`~idemvox.losses.pairwise.nt_xent`.

    Returns:
        Scalar, the mean over the B anchors; or (B,).
    """
    with torch.autocast(query.device.type, enabled=False):
        query, key, negatives = (F.normalize(single(x), dim=1) for x in (query, key, negatives))
        wrong = query @ negatives.T  # (B, Q)
        if leave_out is not None:
            wrong = wrong.masked_fill(leave_out, float("-inf"))
        right = torch.linalg.vecdot(query, key)[:, None]  # (B, 1)
        first = torch.zeros(len(query), dtype=torch.int64, device=query.device)
        cosine = with_margin(torch.cat([right, wrong], 1), first, margin, angular)  # (B, 1 + Q)
        return F.cross_entropy(cosine / temperature, first, reduction=reduction)
