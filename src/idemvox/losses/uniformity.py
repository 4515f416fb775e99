"""How evenly embeddings lie on the sphere: a pure function of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import single

__all__ = ["uniformity"]


def uniformity(x: Tensor, t: float = 2.0, leave_out: Tensor | None = None) -> Tensor:
    """Logarithm of the mean Gaussian potential over all pairs of a view (Wang & Isola, 2020).

    ``log mean_{i < j} exp(-t |x_i - x_j|^2)`` of normalised embeddings: 0 if all are the same, lower the
    more evenly they are spread. Eq. 3 of Mun et al. (2020) sums over i != j, each pair twice, but divides by
    the number of pairs. That adds log 2 and changes no gradient; their code takes the mean, as here.
    There is no ``reduction``: the logarithm of one mean over pairs has no loss per row.

    Args:
        x: (B, D) embeddings of one view, of any norm.
        t: sharpness of the potential; the higher, the more close pairs count.
        leave_out: (B, B) whether to exclude the pair of row i and row j; the diagonal is ignored.

    Returns:
        Scalar, in fp32 even under autocast; 0 if there is no pair.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = F.normalize(single(x), dim=1)
        potential = 2 * t * (x @ x.T - 1)  # -t |x_i - x_j|^2, (B, B)
        pairs = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        if leave_out is not None:
            pairs = pairs & ~leave_out
        lowest = torch.finfo(potential.dtype).min  # -inf would give NaN gradients if there is no pair
        total = potential.masked_fill(~pairs, lowest).logsumexp((0, 1))
        count = pairs.sum().to(potential.dtype)
        return torch.where(count > 0, total - count.clamp_min(1).log(), 0.0)
