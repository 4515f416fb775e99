"""Losses on similarities between pairs of embeddings: pure functions of tensors.

Everything runs in fp32, even under autocast: at temperature 0.03 the logits reach 33, where bf16 is off by
0.13.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Reduction", "info_nce", "nt_xent"]

Reduction = Literal["mean", "none"]
"""``"mean"``: one number, the mean over rows; ``"none"``: the loss of each row."""


def single(x: Tensor) -> Tensor:
    """Return ``x`` in fp32 if it is in half precision; fp32 and fp64 are unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_pairs(logits: Tensor, pairs: Tensor | None) -> Tensor:
    """Exclude pairs of rows (B, B) from the denominators of ``logits`` (nB, nB), except on the diagonal."""
    if pairs is None:
        return logits
    others = pairs & ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    views = len(logits) // len(pairs)
    return logits.masked_fill(others.repeat(views, views), float("-inf"))


def with_margin(cosine: Tensor, right: Tensor, margin: float, angular: bool = False) -> Tensor:
    """Make one cosine of each row (N, C), that of the column ``right`` (N,), harder by a margin.

    It becomes ``cos - margin`` (CosFace, Wang et al. 2018, eq. 4), or with ``angular``
    ``cos(theta + margin)`` (ArcFace, Deng et al. 2019, eq. 3). Past ``theta = pi - margin``, where that would
    rise again, it is ``cos(theta) - margin * sin(margin)``, which keeps falling.
    """
    if margin == 0:
        return cosine
    chosen = cosine.gather(1, right[:, None])  # (N, 1)
    shifted = chosen - margin
    if angular:
        sine = (1 - chosen.square()).clamp_min(1e-12).sqrt()
        shifted = torch.where(
            chosen <= math.cos(math.pi - margin),
            chosen - margin * math.sin(margin),
            chosen * math.cos(margin) - sine * math.sin(margin),
        )
    return cosine.scatter(1, right[:, None], shifted)


def nt_xent(
    query: Tensor,
    target: Tensor,
    temperature: float = 0.03,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
    margin: float = 0.0,
    angular: bool = False,
) -> Tensor:
    """Symmetric normalised-temperature cross entropy (SimCLR; the loss in the SSPS authors' code).

    Each of the 2B embeddings is an anchor, with one positive (the other view of the same row) and 2B - 2
    negatives (both views of all other rows). Its similarity with itself is removed, not set to 0.

    Args:
        query: (B, D) embeddings of one view, of any norm.
        target: (B, D) embeddings of the other view, or pseudo-positives.
        temperature: divides the cosine similarities.
        leave_out: (B, B) whether to exclude both views of row j from the negatives of both views of row i.
            The diagonal is ignored: the positive is always kept.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.
        margin: by which each positive is made harder: SNT-Xent-AM, or SNT-Xent-AAM if ``angular``, of Lepage
            & Dehak (2024); see :func:`with_margin`.
        angular: whether the margin is one of the angle, in radians.

    Returns:
        Scalar, the mean over the 2B anchors; or (B,), the mean over the two anchors of each row.
    """
    with torch.autocast(query.device.type, enabled=False):
        both = F.normalize(single(torch.cat([query, target])), dim=1)  # (2B, D)
        batch = len(query)
        partner = torch.arange(2 * batch, device=query.device).roll(batch)
        cosine = with_margin(both @ both.T, partner, margin, angular)  # (2B, 2B)
        logits = without_pairs(cosine / temperature, leave_out)
        logits.fill_diagonal_(float("-inf"))
        loss = F.cross_entropy(logits, partner, reduction=reduction)
        return loss if reduction == "mean" else loss.view(2, batch).mean(0)


def info_nce(
    query: Tensor,
    target: Tensor,
    temperature: float = 0.03,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
    margin: float = 0.0,
    angular: bool = False,
) -> Tensor:
    """One-sided contrastive loss: eq. 1 of the SSPS paper (Lepage & Dehak, 2025).

    ``-1/B sum_i log( exp(s(z_i, z'_i) / t) / sum_j exp(s(z_i, z'_j) / t) )`` with cosine similarity s:
    B - 1 negatives, all from the other view.

    Args:
        query: (B, D) anchors.
        target: (B, D) positives.
        temperature: t.
        leave_out: (B, B) whether to exclude row j from the denominator of row i. The diagonal is ignored: the
            positive is always kept.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.
        margin, angular: as for :func:`nt_xent`.

    Returns:
        Scalar, the mean over the B anchors; or (B,).
    """
    with torch.autocast(query.device.type, enabled=False):
        cosine = F.normalize(single(query), dim=1) @ F.normalize(single(target), dim=1).T
        right = torch.arange(len(query), device=query.device)
        logits = with_margin(cosine, right, margin, angular) / temperature
        return F.cross_entropy(without_pairs(logits, leave_out), right, reduction=reduction)
