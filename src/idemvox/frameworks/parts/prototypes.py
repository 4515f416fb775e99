"""Prototypes of a memory of embeddings, recomputed each epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from idemvox.clustering.kmeans import spherical_kmeans
from idemvox.draws import draw_seed
from idemvox.losses.prototypes import concentration, nearest_prototype, proto_nce

__all__ = ["PrototypeBank"]


class PrototypeBank(nn.Module):
    """The centroids of several clusterings of the same embeddings, and how tight their clusters are.

    Args:
        clusters: K of each clustering.
        dim: width D of an embedding.
        iterations: of k-means.
    """

    epoch: Tensor
    """The epoch whose prototypes these are, -1 for none yet."""

    def __init__(self, clusters: Sequence[int], dim: int, iterations: int = 20) -> None:
        super().__init__()
        self.clusters, self.iterations = tuple(clusters), iterations
        self.register_buffer("epoch", torch.tensor(-1))
        for number, k in enumerate(clusters):
            self.register_buffer(f"centroids{number}", torch.zeros(k, dim))
            self.register_buffer(f"phi{number}", torch.zeros(k))

    @torch.no_grad()
    def fit(self, x: Tensor, epoch: int, temperature: float) -> bool:
        """Cluster embeddings (N, D), unless that was done in this epoch, as when a run resumes within it.

        Args:
            x: of unit norm, the same on all ranks.
            epoch: from 0; it is also the seed.
            temperature: mean of the clusters' temperatures.

        Returns:
            Whether there are prototypes now; not with fewer than two embeddings.
        """
        if int(self.epoch) == epoch:
            return True
        if len(x) < 2:
            return int(self.epoch) >= 0
        for number, k in enumerate(self.clusters):
            found = spherical_kmeans(x, k, self.iterations, draw_seed(epoch, number))
            phi = concentration(x, found.centroids, found.assignment, temperature)
            for name, value in (("centroids", found.centroids), ("phi", phi)):
                table = self.get_buffer(f"{name}{number}")
                table.zero_()[: len(value)] = value
        self.epoch.fill_(epoch)
        return True

    def loss(self, query: Tensor, key: Tensor) -> Tensor:
        """Return ProtoNCE of queries (B, D), whose prototypes are those nearest to their keys (B, D)."""
        losses = []
        for number in range(len(self.clusters)):
            centroids, phi = (self.get_buffer(f"{name}{number}") for name in ("centroids", "phi"))
            losses.append(proto_nce(query, centroids, phi, nearest_prototype(key, centroids, phi)))
        return torch.stack(losses).mean()
