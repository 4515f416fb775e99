"""SSPS: self-supervised positive sampling (Lepage & Dehak, Interspeech 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from idemvox.corpus.crops import Crop, Views
from idemvox.draws import draw_seed
from idemvox.errors import IdemvoxError
from idemvox.positives.base import Positives, Setting
from idemvox.positives.kmeans import Clusters, spherical_kmeans, whiten
from idemvox.positives.queue import EmbeddingQueue
from idemvox.registry import POSITIVES

__all__ = ["SSPS", "Buckets", "nearest_clusters"]

_BLOCK = 1 << 26  # similarities held at once


def nearest_clusters(centroids: Tensor, occupied: Tensor, neighbours: int) -> Tensor:
    """Return (K, M) the M occupied clusters nearest to each centroid (K, D), itself left out; -1 for none."""
    m = min(neighbours, len(centroids))
    parts = []
    for rows in torch.arange(len(centroids), device=centroids.device).split(max(1, _BLOCK // len(centroids))):
        similarity = centroids[rows] @ centroids.T  # (rows, K)
        similarity[:, ~occupied] = float("-inf")
        similarity[torch.arange(len(rows)), rows] = float("-inf")
        best = similarity.topk(m, dim=1)
        parts.append(best.indices.masked_fill(best.values == float("-inf"), -1))
    return torch.cat(parts)


class Buckets:
    """The members of each cluster, laid out for drawing many at once.

    Args:
        cluster: (S,) the cluster of each member, -1 for one that is in none.
        clusters: K.
    """

    def __init__(self, cluster: Tensor, clusters: int) -> None:
        members = (cluster >= 0).nonzero().flatten()
        self.order = members[torch.argsort(cluster[members], stable=True)]  # members, cluster by cluster
        self.counts = torch.bincount(cluster[members], minlength=clusters)
        self.starts = self.counts.cumsum(0) - self.counts
        self.place = torch.full_like(cluster, -1)
        self.place[self.order] = torch.arange(len(self.order), device=cluster.device)

    def draw(self, cluster: Tensor, without: Tensor, uniform: Tensor) -> Tensor:
        """Draw one member of each cluster uniformly.

        Args:
            cluster: (B,) clusters to draw from; -1 gives -1.
            without: (B,) a member never to be drawn, -1 for none.
            uniform: (B,) numbers in [0, 1) that decide.

        Returns:
            (B,) members, -1 where there is none to draw.
        """
        if not len(self.order):
            return torch.full_like(cluster, -1)
        wanted = cluster.clamp_min(0)
        start, count = self.starts[wanted], self.counts[wanted]
        own = torch.where(without >= 0, self.place[without.clamp_min(0)], -1) - start  # place in the bucket
        inside = (own >= 0) & (own < count)
        count = count - inside.long()
        pick = (uniform * count).long().clamp_max(count - 1)
        pick = pick + (inside & (pick >= own)).long()
        found = (cluster >= 0) & (count > 0)
        return torch.where(found, self.order[(start + pick).clamp(0, len(self.order) - 1)], -1)


@POSITIVES.register("ssps")
class SSPS(Positives):
    """Replace the positive's embedding by that of a pseudo-positive utterance.

    At each epoch's start, spherical k-means partitions the reference representations of all utterances
    (a clean 4-second crop each, encoder in eval mode; the queue Q-hat, section 3.1).  For an anchor in
    cluster c a cluster is drawn uniformly from the M nearest to c (eq. 5; M = 0: c itself), then an
    utterance of that cluster (eq. 6); its embedding is taken from the positive queue Q' if it is there,
    otherwise the anchor's own positive stays.  The anchor itself is never drawn.

    Paper and public code part at eq. 6.  The text draws from all utterances of the cluster and falls back
    when the queue does not hold the one drawn (``sample_from: train``): with |Q'| = K = 25,000 of 1,092,009
    utterances that replaces 2.3 % of the positives.  The code draws from those that the queue holds
    (``sample_from: queue``, the default): about 1 - 1/e = 63 %.  The share replaced is logged as coverage.
    """

    needs_fill = True

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the paper's, for VoxCeleb2 (section 4).

        ``clusters`` is K, ``neighbours`` M, ``queue`` the size of Q' (``None``: as many as clusters),
        ``seconds`` the length of the reference crop.  ``refresh`` makes both queues anew by a forward pass
        before every epoch, where the paper fills them once and lets training overwrite them: dearer, but on
        a small corpus at a high learning rate the encoder moves so far in an epoch that old references
        no longer agree with new ones.  Steps then make no reference, which the next pass would replace.
        ``whiten`` is the power of the singular values that references are divided by before k-means, as
        :func:`~idemvox.positives.kmeans.whiten` does; 0 is the paper's.  What a small encoder's
        representations differ most in is often the recording: 0.5 found more utterances of the anchor's
        speaker, also from other recordings, for every K that was tried.
        """

        clusters: int = 25_000
        neighbours: int = 1
        queue: int | None = None
        sample_from: Literal["queue", "train"] = "queue"
        iterations: int = 10
        seconds: float = 4.0
        refresh: bool = False
        whiten: float = 0.0

        def __post_init__(self) -> None:
            if self.clusters < 2 or self.neighbours < 0 or (self.queue is not None and self.queue < 1):
                raise IdemvoxError("ssps needs clusters >= 2, neighbours >= 0 and a queue of at least 1")
            if self.sample_from not in ("queue", "train"):
                raise IdemvoxError(f"ssps sample_from is 'queue' or 'train', not {self.sample_from!r}")
            if not 0 <= self.whiten <= 1:
                raise IdemvoxError(f"ssps whiten is a power from 0 to 1, not {self.whiten}")

    reference: Tensor
    """Q-hat: (N, dim), by utterance."""
    seen: Tensor
    """(N,) whether an utterance has a reference."""
    assignment: Tensor
    """(N,) cluster of each utterance in this epoch, -1 before the first k-means."""
    near: Tensor
    """(K, max(M, 1)) the clusters to draw from, for each cluster."""
    epoch: Tensor
    step: Tensor

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options: SSPS.Options = options
        n = setting.utterances
        self.refresh = options.refresh
        self.clusters = min(options.clusters, n)
        self.queue = EmbeddingQueue(options.queue or options.clusters, setting.embedding_dim, n)
        buffers: dict[str, Tensor] = {
            "reference": torch.zeros(n, setting.dim),
            "seen": torch.zeros(n, dtype=torch.bool),
            "assignment": torch.full((n,), -1),
            "near": torch.full((self.clusters, max(1, min(options.neighbours, self.clusters - 1))), -1),
            "epoch": torch.zeros((), dtype=torch.int64),
            "step": torch.zeros((), dtype=torch.int64),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self._members: Buckets | None = None

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Restore a state, and forget the members of the clusters that it replaces."""
        self._members = None
        return super().load_state_dict(*args, **kwargs)

    def views(self) -> Views:
        return {"reference": Crop(1, self.options.seconds, augment=False)}

    @torch.no_grad()
    def observe(self, ids: Tensor, reference: Tensor) -> None:
        self.reference[ids] = reference.float()
        self.seen[ids] = True

    def store(self, ids: Tensor, targets: Tensor) -> None:
        self.queue.push(ids, targets)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Cluster the references as they stand; utterances never seen are in no cluster."""
        seen = self.seen.nonzero().flatten()
        if len(seen) == 0:
            raise IdemvoxError("ssps has no reference representations yet: run the fill pass first")
        reference = self.reference[seen]
        if self.options.whiten:
            reference = whiten(reference, self.options.whiten)
        found = spherical_kmeans(
            reference, self.clusters, self.options.iterations, draw_seed(self.setting.seed, epoch), ids=seen
        )
        self.assignment.fill_(-1)
        self.assignment[seen] = found.assignment
        self.near.copy_(self._reachable(found))
        self.epoch.fill_(epoch)
        self.step.zero_()
        self._members = None
        sizes = torch.bincount(found.assignment, minlength=len(found.centroids))
        return {
            "clusters": float((sizes > 0).sum()),
            "cluster_cosine": found.objective,
            "cluster_largest": float(sizes.max()),
            "queue_filled": self.queue.filled,
        }

    def _reachable(self, found: Clusters) -> Tensor:
        k, m = len(found.centroids), self.options.neighbours
        table = torch.full_like(self.near, -1)
        if m == 0:
            table[:k, 0] = torch.arange(k, device=table.device)
        elif k > 1:
            occupied = torch.bincount(found.assignment, minlength=k) > 0
            near = nearest_clusters(found.centroids, occupied, table.shape[1])
            table[:k, : near.shape[1]] = near
        return table

    def _buckets(self) -> Buckets:
        """Return whom to draw from: queue slots, or utterances."""
        if self.options.sample_from == "queue" and not self.queue.is_table:
            held = self.queue.ids
            return Buckets(torch.where(held >= 0, self.assignment[held.clamp_min(0)], -1), self.clusters)
        if self._members is None:
            self._members = Buckets(self.assignment, self.clusters)
        return self._members

    @torch.no_grad()
    def choose(self, ids: Tensor) -> Tensor:
        """Choose a pseudo-positive for each anchor.

        Args:
            ids: (B,) anchors.

        Returns:
            (B,) queue slots, -1 where the anchor keeps its own positive.
        """
        seed = draw_seed(self.setting.seed, int(self.epoch), int(self.step), 0x5353)
        dice = torch.rand(2, len(ids), generator=torch.Generator().manual_seed(seed)).to(ids.device)
        own = self.assignment[ids]
        reach = self.near[own.clamp_min(0)]  # (B, M)
        options = (reach >= 0).sum(1)  # topk puts the -1 of too few neighbours last
        pick = (dice[0] * options).long().clamp(max=reach.shape[1] - 1)
        cluster = reach.gather(1, pick[:, None]).flatten()
        cluster = torch.where((own >= 0) & (options > 0), cluster, -1)
        by_slot = self.options.sample_from == "queue" and not self.queue.is_table
        drawn = self._buckets().draw(cluster, self.queue.slot_of[ids] if by_slot else ids, dice[1])
        return drawn if by_slot else torch.where(drawn >= 0, self.queue.slot_of[drawn.clamp_min(0)], -1)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        slots = self.choose(ids)
        hit = slots >= 0
        self.chosen = torch.where(hit, self.queue.ids[slots.clamp_min(0)], -1)
        stored = self.queue.vectors[slots.clamp_min(0)].to(targets.dtype)
        swapped = torch.where(hit[:, None], stored, targets)
        self.queue.push(ids, targets)
        self.step += 1
        return swapped
