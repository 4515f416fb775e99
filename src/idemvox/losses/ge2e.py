"""Generalised end-to-end loss: every utterance against the centroid of every speaker in the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single

__all__ = ["ge2e"]


def ge2e(
    embedding: Tensor, scale: Tensor | float, bias: Tensor | float, reduction: Reduction = "mean"
) -> Tensor:
    """GE2E with softmax (Wan et al. 2018, eq. 5, 6 and 9).

    ``-1/PM sum_ji log( exp(S_ji,j) / sum_k exp(S_ji,k) )`` with ``S_ji,k = scale * cos(e_ji, c_k) + bias``;
    c_k is the mean of the normalised embeddings of speaker k; for k = j it excludes e_ji. The CEL paper's
    code also raises cosines below 1e-6 to that value, so pairs beyond a right angle give no gradient; this
    does not.

    Args:
        embedding: (P, M, D) of P speakers and M >= 2 utterances of each, of any norm.
        scale: w, above 0.
        bias: b; the same in every logit, so it cancels and its gradient is only rounding.
        reduction: ``"mean"``, or ``"none"`` for the loss of each utterance.

    Returns:
        Scalar, the mean over the P M utterances; or (P, M).
    """
    with torch.autocast(embedding.device.type, enabled=False):
        speakers, utterances, _ = embedding.shape
        unit = F.normalize(single(embedding), dim=2)
        total = unit.sum(1)  # (P, D): the cosine ignores length, so a sum serves as the mean
        cosine = torch.einsum("pmd,kd->pmk", unit, F.normalize(total, dim=1))  # (P, M, P)
        others = F.normalize(total[:, None] - unit, dim=2)
        same = torch.eye(speakers, dtype=torch.bool, device=unit.device)[:, None]  # (P, 1, P)
        cosine = torch.where(same, (unit * others).sum(2, keepdim=True), cosine)
        labels = torch.arange(speakers, device=unit.device).repeat_interleave(utterances)
        loss = F.cross_entropy((scale * cosine + bias).flatten(0, 1), labels, reduction=reduction)
        return loss if reduction == "mean" else loss.unflatten(0, (speakers, utterances))
