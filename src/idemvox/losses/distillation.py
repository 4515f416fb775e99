"""Self-distillation losses, for a student that learns to predict its teacher's output."""

from __future__ import annotations

import torch
from torch import Tensor

from idemvox.losses.pairwise import Reduction, single

__all__ = ["entropy", "self_distillation", "sharpened"]


def sharpened(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Return the teacher's probabilities: centred, sharpened, in fp32 and without a gradient.

    Args:
        logits: (B, G, P) of the teacher.
        centre: (P,) subtracted first, so that no output dominates for all inputs.
        temperature: divides the result; lower than the student's, so that the output does not become uniform.

    Returns:
        (B, G, P) softmax((logits - centre) / temperature).
    """
    with torch.autocast(logits.device.type, enabled=False):
        return torch.softmax((logits.detach().float() - centre) / temperature, dim=-1)


def self_distillation(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 0.1,
    average: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """DINO's loss: the cross entropy of every pair of a teacher's view and a different student's view.

    ``1/B sum_i sum_t sum_{s != t} H(p_it, q_is)`` with q = softmax(student / temperature): Caron et al.
    (2021), eq. 3; Lepage & Dehak (2025), eq. 2. Their equation sums over the pairs, their code takes the
    mean.

    Args:
        student: (B, S, P) logits; the first G views are the teacher's views.
        teacher: (B, G, P) probabilities, see :func:`sharpened`.
        temperature: the student's.
        average: divide by the number of pairs, G (S - 1), as the public code does.
        reduction: ``"mean"``, or ``"none"`` for the loss of each utterance.

    Returns:
        Scalar, the mean over the B utterances; or (B,).
    """
    views = teacher.shape[1]
    with torch.autocast(student.device.type, enabled=False):
        predicted = torch.log_softmax(single(student) / temperature, dim=-1)  # (B, S, P)
        # all pairs, minus those of a view with itself
        axes, rows = ("", len(student)) if reduction == "mean" else ("b", 1)
        all_pairs = torch.einsum(f"bp,bsp->{axes}", teacher.sum(1), predicted)
        self_pairs = torch.einsum(f"bgp,bgp->{axes}", teacher, predicted[:, :views])
        pairs = views * (student.shape[1] - 1) if average else 1
        loss: Tensor = (self_pairs - all_pairs) / (rows * pairs)
        return loss


def entropy(probabilities: Tensor) -> Tensor:
    """Return the mean entropy of (..., P) in nats: log P if all are equal, 0 if one takes everything."""
    mean: Tensor = torch.special.entr(probabilities).sum(-1).mean()
    return mean
