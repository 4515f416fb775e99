"""SSPS with the centroid of a cluster as the pseudo-positive."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Swap
from idemvox.devices import is_free_to_read
from idemvox.positives.cluster_options import ClusterOptions
from idemvox.positives.clusters import ClusterSampler
from idemvox.registry import POSITIVES

__all__ = ["CentroidSSPS"]

_BLOCK = 1 << 24  # weights held at once


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
        """Draw a cluster for each anchor, and return its centroid.

        Returns:
            (B, embedding_dim) sums of the cluster's embeddings in the queue, without the anchor's; 0 where
            there is none. And (B,) the clusters.
        """
        cluster, _ = self._draw_clusters(ids)
        add = self._add_members if is_free_to_read(cluster) else self._add_slots
        return add(cluster, self.queue.find(ids)), cluster

    def _add_members(self, cluster: Tensor, anchor: Tensor) -> Tensor:
        """Add up the embeddings of each cluster (B,) but that in the slot ``anchor`` (B,)."""
        members, begin = self.members.all_of(cluster)
        slots = self.queue.find(members)
        there = slots >= 0
        slots, begin = slots[there], F.pad(there.cumsum(0), (1, 0))[begin]
        row = torch.bucketize(torch.arange(len(slots), device=cluster.device), begin, right=True) - 1
        others = (slots != anchor[row]).to(self.queue.vectors.dtype)
        return F.embedding_bag(slots, self.queue.vectors, begin, mode="sum", per_sample_weights=others)

    def _add_slots(self, cluster: Tensor, anchor: Tensor) -> Tensor:
        """Do the same as a product with all slots: on a GPU no shape depends on data, so nothing waits."""
        vectors, held, held_cluster = self.queue.vectors, self.queue.held, self.cluster_of
        total = vectors.new_zeros(len(cluster), vectors.shape[1])
        rows = max(1, _BLOCK // max(len(cluster), 1))
        for start in range(0, self.queue.size, rows):
            part = slice(start, start + rows)
            slots = torch.arange(start, start + len(vectors[part]), device=cluster.device)
            adds = held[part] & (held_cluster[part] == cluster[:, None]) & (slots != anchor[:, None])
            with torch.autocast(vectors.device.type, enabled=False):
                total.addmm_(adds.to(vectors.dtype), vectors[part])
        return total

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
