"""Losses that match each anchor with its own prototype in the batch: pure functions of tensors.

Here a prototype is the embedding of another crop of the anchor's utterance, or of a pseudo-positive.
Everything runs in fp32, even under autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single, without_pairs

__all__ = ["angular_contrastive", "angular_prototypical", "prototypical"]


def _matched(logits: Tensor, leave_out: Tensor | None, reduction: Reduction) -> Tensor:
    """Return the cross entropy of logits (B, B) with the targets on the diagonal."""
    right = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(without_pairs(logits, leave_out), right, reduction=reduction)


def _angular(anchor: Tensor, prototype: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Return the logits ``scale * cosine + bias`` (B, B) of every anchor with every prototype."""
    cosine = F.normalize(single(anchor), dim=1) @ F.normalize(single(prototype), dim=1).T
    return scale * cosine + bias


def prototypical(
    anchor: Tensor, prototype: Tensor, leave_out: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Prototypical loss (Snell et al., 2017, with one supporting crop) on embeddings that are not normalised.

    ``-1/B sum_i log( exp(-|a_i - p_i|^2) / sum_j exp(-|a_i - p_j|^2) )``: the norm matters, so a model
    trained this way is scored by squared Euclidean distance.

    Args:
        anchor: (B, D).
        prototype: (B, D).
        leave_out: (B, B) whether to exclude prototype j from the denominator of anchor i. The diagonal is
            ignored: the positive is always kept.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the B anchors; or (B,).
    """
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, prototype = single(anchor), single(prototype)
        # -|a - p|^2 + |a|^2: the anchor's norm is the same for all prototypes and cancels
        return _matched(2 * anchor @ prototype.T - prototype.square().sum(1), leave_out, reduction)


def angular_prototypical(
    anchor: Tensor,
    prototype: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Angular prototypical loss, A-Prot (Chung et al., 2020; eq. 4 and 5 of Mun et al., 2020): one-sided.

    ``-1/B sum_i log( exp(S_ii) / sum_j exp(S_ij) )`` with ``S_ij = scale * cos(a_i, p_j) + bias``.

    Args:
        anchor: (B, D), of any norm.
        prototype: (B, D), of any norm.
        scale: w, above 0; :class:`~idemvox.frameworks.parts.heads.Affine` keeps a learnable scale positive.
        bias: b; the same in every logit, so it cancels and its gradient is only rounding.
        leave_out: (B, B) whether to exclude prototype j from the denominator of anchor i. The diagonal is
            ignored: the positive is always kept.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the B anchors; or (B,).
    """
    with torch.autocast(anchor.device.type, enabled=False):
        return _matched(_angular(anchor, prototype, scale, bias), leave_out, reduction)


def angular_contrastive(
    anchor: Tensor,
    prototype: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    leave_out: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Angular contrastive loss, A-Cont (eq. 6 of Mun et al., 2020): the mean of A-Prot in both directions.

    The negatives of an anchor are the other prototypes, those of a prototype the other anchors. Unlike in
    NT-Xent, no negative is from the same view.

    Args:
        anchor: (B, D), of any norm.
        prototype: (B, D), of any norm.
        scale, bias: as for :func:`angular_prototypical`.
        leave_out: (B, B) whether to exclude both views of row j from the negatives of both views of row i.
            The diagonal is ignored: the positive is always kept.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the 2B anchors; or (B,), the mean over both directions of each row.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        logits = _angular(anchor, prototype, scale, bias)
        return (_matched(logits, leave_out, reduction) + _matched(logits.T, leave_out, reduction)) / 2
