"""Contrastive loss of mixtures of two utterances: a pure function of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single, without_pairs

__all__ = ["mixed_nce"]


def mixed_nce(
    query: Tensor,
    target: Tensor,
    partner: Tensor,
    share: Tensor,
    temperature: float = 0.03,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """One-sided contrastive loss of queries that are mixtures: i-mix (Lee et al., 2021, eq. 3).

    The query of row i, made of rows i and ``partner_i``, is to find both of their targets: ``-share_i log
    p_i,i - (1 - share_i) log p_i,partner_i`` with p the softmax over targets of cosine similarity divided by
    the temperature, as in :func:`~idemvox.losses.pairwise.info_nce`.

    Args:
        query: (B, D) of mixtures, of any norm. target: (B, D) of single utterances. partner: (B,) the other
        row of each mixture. share: (B,) of row i in mixture i, from 0 to 1. temperature: t. leave_out: (B, B)
        whether to exclude row j from the denominator of mixture i; ignored for the two that it
            is made of.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the B mixtures; or (B,).
    """
    with torch.autocast(query.device.type, enabled=False):
        logits = F.normalize(single(query), dim=1) @ F.normalize(single(target), dim=1).T / temperature
        if leave_out is not None:
            leave_out = leave_out.scatter(1, partner[:, None], False)
        likely = F.log_softmax(without_pairs(logits, leave_out), dim=1)  # (B, B)
        other = likely.gather(1, partner[:, None])[:, 0]
        rows: Tensor = -share * likely.diagonal() - (1 - share) * other
        return rows.mean() if reduction == "mean" else rows
