"""How evenly embeddings lie on the sphere: a pure function of tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.losses.pairwise import single

__all__ = ["uniformity"]


def uniformity(x: Tensor, t: float = 2.0, leave_out: Tensor | None = None) -> Tensor:
    """Logarithm of the mean Gaussian potential of all pairs of a view (Wang & Isola, 2020).

    ``log mean_{i < j} exp(-t |x_i - x_j|^2)`` of normalised embeddings: 0 if all lie in one place, lower the
    more evenly they are spread. Eq. 3 of Mun et al. (2020) sums over i != j, each pair twice, but divides by
    the number of pairs: log 2 more, which changes no gradient; their code takes the mean, as here.
    Rows have no loss of their own, so there is no ``reduction``: it is the logarithm of one mean over pairs.

    Args:
        x: (B, D) embeddings of one view, of any norm.
        t: of the potential; the higher, the more near pairs count.
        leave_out: (B, B) whether the row i is not pushed away from the row j; the diagonal is of no account.

    Returns:
        Scalar, in fp32 whatever the autocast; 0 where there is no pair.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = F.normalize(single(x), dim=1)
        potential = 2 * t * (x @ x.T - 1)  # -t |x_i - x_j|^2, (B, B)
        pairs = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        if leave_out is not None:
            pairs = pairs & ~leave_out
        lowest = torch.finfo(potential.dtype).min  # -inf would have no gradient where there is no pair
        total = potential.masked_fill(~pairs, lowest).logsumexp((0, 1))
        count = pairs.sum().to(potential.dtype)
        return torch.where(count > 0, total - count.clamp_min(1).log(), 0.0)
