"""Losses that match each anchor with its own prototype among a batch's: pure functions of tensors.

Here a prototype is the embedding of one other crop of the anchor's utterance, or of a pseudo-positive.
Everything runs in fp32 whatever the autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import Reduction, single, without

__all__ = ["angular_contrastive", "angular_prototypical", "prototypical"]


def _matched(logits: Tensor, leave_out: Tensor | None, reduction: Reduction) -> Tensor:
    """Return the cross entropy of logits (B, B) whose right answers are on the diagonal."""
    right = torch.arange(len(logits), device=logits.device)
    return F.cross_entropy(without(logits, leave_out), right, reduction=reduction)


def _angular(anchor: Tensor, prototype: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Return the logits ``scale * cosine + bias`` (B, B) of every anchor with every prototype."""
    cosine = F.normalize(single(anchor), dim=1) @ F.normalize(single(prototype), dim=1).T
    return scale * cosine + bias


def prototypical(
    anchor: Tensor, prototype: Tensor, leave_out: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """Prototypical loss (Snell et al., 2017, with one supporting crop) on embeddings as they are.

    ``-1/B sum_i log( exp(-|a_i - p_i|^2) / sum_j exp(-|a_i - p_j|^2) )``: the norm counts, so what is trained
    this way is scored by squared Euclidean distance.

    Args:
        anchor: (B, D).
        prototype: (B, D).
        leave_out: (B, B) whether the prototype j is left out of the denominator of the anchor i; what is on
            the diagonal is of no account, the positive stays.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the B anchors; or (B,).
    """
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, prototype = single(anchor), single(prototype)
        # -|a - p|^2 + |a|^2: an anchor's own norm is the same for all prototypes and cancels
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
        scale: w, above 0; :class:`~idemvox.frameworks.parts.heads.Affine` keeps a learnable one there.
        bias: b; being the same in every logit it cancels, and has no gradient but rounding.
        leave_out: (B, B) whether the prototype j is left out of the denominator of the anchor i; what is on
            the diagonal is of no account, the positive stays.
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
    """Angular contrastive loss, A-Cont (eq. 6 of Mun et al., 2020): A-Prot in both directions, the mean.

    Negatives of an anchor are the other prototypes, those of a prototype the other anchors; unlike
    NT-Xent's, none is of the same view.

    Args:
        anchor: (B, D), of any norm.
        prototype: (B, D), of any norm.
        scale, bias: as for :func:`angular_prototypical`.
        leave_out: (B, B) whether both views of the row j are no negatives of both views of the row i; what is
            on the diagonal is of no account, the positive stays.
        reduction: ``"mean"``, or ``"none"`` for the loss of each row.

    Returns:
        Scalar, the mean over the 2B anchors; or (B,), the mean over both directions of each row.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        logits = _angular(anchor, prototype, scale, bias)
        return (_matched(logits, leave_out, reduction) + _matched(logits.T, leave_out, reduction)) / 2
