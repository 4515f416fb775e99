"""SSPS with the centroid of a cluster as the pseudo-positive."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Swap
from idemvox.positives.cluster_options import ClusterOptions
from idemvox.positives.clusters import ClusterSampler
from idemvox.registry import POSITIVES

__all__ = ["CentroidSSPS"]


@POSITIVES.register("ssps_centroid")
class CentroidSSPS(ClusterSampler):
    """Replace the positive's embedding by the centroid of a cluster (the public code's ``kmeans``).

    A cluster is drawn as in SSPS. Its centroid is the mean direction of its embeddings in the queue, without
    the anchor's, scaled to the length of the target that it replaces. So it lies in the space of targets; the
    centroids of k-means lie in the space of references. If the queue holds no embedding of the cluster, the
    anchor keeps its positive. A centroid belongs to no utterance, so its accuracy is not counted.
    """

    Options = ClusterOptions

    @torch.no_grad()
    def centroids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centroid of a cluster drawn for each anchor (B, embedding_dim), 0 where it has none.

        It is the sum of the cluster's embeddings in the queue, without the anchor's: a direction. With it
        come the clusters (B,).
        """
        cluster, _ = self._draw_clusters(ids)
        members, begin = self.members.all_of(cluster)
        slots = self.queue.find(members)
        there = slots >= 0
        slots, begin = slots[there], F.pad(there.cumsum(0), (1, 0))[begin]
        anchor = torch.bucketize(torch.arange(len(slots), device=ids.device), begin, right=True) - 1
        others = (slots != self.queue.find(ids)[anchor]).to(self.queue.vectors.dtype)
        total = F.embedding_bag(slots, self.queue.vectors, begin, mode="sum", per_sample_weights=others)
        return total, cluster

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        mean, cluster = self.centroids(ids)
        self.next_step()
        replaced = (mean != 0).any(1)
        stored = F.normalize(mean, dim=1) * targets.detach().norm(dim=1, keepdim=True)
        return Swap(
            torch.where(replaced[:, None], stored.to(targets.dtype), targets),
            replaced,
            torch.full_like(ids, -1),
            targets.detach(),
            self._groups(cluster, replaced),
        )
