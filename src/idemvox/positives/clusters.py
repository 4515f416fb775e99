"""The base class of samplers that draw from clusters, with references, clusters and a queue of targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from idemvox.batch import Groups
from idemvox.clustering.kmeans import check_rows
from idemvox.clustering.neighbours import mutual_share
from idemvox.clustering.shards import RowShards
from idemvox.clustering.whitening import whiten
from idemvox.corpus.crops import Crop, Views
from idemvox.devices import to_device
from idemvox.draws import draw_seed
from idemvox.errors import RunError
from idemvox.positives.base import Positives, Setting
from idemvox.positives.cluster_options import ClusterOptions
from idemvox.positives.drawing import Buckets, draw_rank, nearest_clusters
from idemvox.positives.partition import find_clusters, size_numbers
from idemvox.positives.queue import EmbeddingQueue, write_rows
from idemvox.positives.units import unit_means

__all__ = ["ClusterSampler"]


class ClusterSampler(Positives):
    """Clusters the references of all utterances before each epoch, and draws a cluster for each anchor.

    A reference is the representation of a clean crop of an utterance, with the encoder in eval mode (the
    queue Q-hat of SSPS, section 3.1). For an anchor in cluster c, one of the M clusters nearest to c is drawn
    (eq. 5; for M = 0, c itself). The subclass chooses the pseudo-positive from it.

    Args:
        options: options of the sampler.
        setting: about the run.
        unit: (N,) the unit of each utterance, to cluster units; ``None`` clusters utterances.
        slots: size of the queue; default: ``options.queue``, or the number of clusters.
    """

    tiny: ClassVar[Mapping[str, Any]] = {"clusters": 6, "seconds": 0.3, "iterations": 3}
    needs_fill = True
    options: ClusterOptions

    reference: Tensor
    """(N, dim) the reference of each utterance: Q-hat."""
    seen: Tensor
    """(N,) whether an utterance has a reference."""
    assignment: Tensor
    """(N,) the cluster of each utterance in this epoch; K for none, as before the first clustering."""
    near: Tensor
    """(K + 1, max(M, 1)) the clusters to draw from for each cluster, -1 for none; row K is all -1."""
    unit: Tensor | None
    """(N,) the unit of each utterance; ``None`` if utterances are clustered."""
    epoch: Tensor
    step: Tensor

    def __init__(
        self,
        options: ClusterOptions,
        setting: Setting,
        unit: Tensor | None = None,
        slots: int | None = None,
    ) -> None:
        super().__init__(options, setting)
        self.refresh = options.refresh
        n = setting.utterances
        units = n if unit is None else int(unit.max()) + 1
        self.clusters = min(options.clusters or units, units)
        self.queue = EmbeddingQueue(slots or options.queue or options.clusters or n, setting.embedding_dim, n)
        buffers: dict[str, Tensor] = {
            "reference": torch.zeros(n, setting.dim),
            "seen": torch.zeros(n, dtype=torch.bool),
            "assignment": torch.full((n,), self.clusters, dtype=torch.int32),
            "near": torch.full((self.clusters + 1, max(1, min(options.neighbours, self.clusters - 1))), -1),
            "epoch": torch.zeros((), dtype=torch.int64),
            "step": torch.zeros((), dtype=torch.int64),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value)
        self.register_buffer("unit", unit, persistent=False)
        self._at: tuple[int, int] | None = None
        self._forget()

    def _forget(self) -> None:
        """Discard what was derived from the previous clusters."""
        self._members: Buckets | None = None
        self._cluster_of: Tensor | None = None

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Restore a state, and discard what was derived from the clusters that it replaces."""
        self._at = None
        self._forget()
        return super().load_state_dict(*args, **kwargs)

    def _place(self) -> tuple[int, int]:
        """Return the epoch and the step in it, from numbers on the host, without waiting for the device."""
        if self._at is None:
            self._at = int(self.epoch), int(self.step)
        return self._at

    def next_step(self) -> None:
        """Go to the next step of the epoch, with new draws for the same anchors."""
        epoch, step = self._place()
        self._at = epoch, step + 1
        self.step += 1

    def views(self) -> Views:
        return {"reference": Crop(1, self.options.seconds, augment=False)}

    @torch.no_grad()
    def observe(self, ids: Tensor, reference: Tensor) -> None:
        write_rows(self.reference, ids, reference)
        self.seen[ids] = True

    def store(self, ids: Tensor, targets: Tensor) -> None:
        held, slots = self.queue.push(ids, targets)
        if self._cluster_of is not None:
            self._cluster_of[slots] = self.assignment[held].masked_fill_(held < 0, self.clusters)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Cluster the current references; utterances without one are in no cluster."""
        self.epoch.fill_(epoch)
        self.step.zero_()
        self._at = epoch, 0
        numbers = self._cluster(epoch)
        return {**numbers, "queue_filled": self.queue.filled} if self.stores else numbers

    def _cluster(self, epoch: int) -> dict[str, float]:
        seen = self.seen.nonzero().flatten()
        if len(seen) == 0:
            raise RunError("no utterance has a reference representation yet: run the fill pass first")
        x = self.reference if len(seen) == len(self.seen) else self.reference[seen]
        if self.options.whiten or self.unit is not None:
            check_rows(RowShards(x, seen), x.any(dim=1))  # here, so that the error names utterances
        if self.options.whiten:
            x = whiten(x, self.options.whiten)
        units = seen
        if self.unit is not None:
            x, units = unit_means(x, self.unit[seen])
        k = None if self.options.clusters is None else self.clusters
        found = find_clusters(x, units, k, self.options, draw_seed(self.setting.seed, epoch))
        before = self.assignment.clone()
        self._assign(units, found.assignment)
        sizes = torch.bincount(self.assignment[seen], minlength=len(found.centroids))
        self.near.copy_(self._reachable(found.centroids, sizes[: len(found.centroids)] > 0))
        self._forget()
        self._see_clusters(x, units, found.assignment)
        return {
            **size_numbers(self.assignment, before, self.clusters),
            "cluster_cosine": float(found.similarity.mean()),
            "mutual_neighbours": mutual_share(x),
            **({} if self.unit is None else {"recordings": float(len(units))}),
        }

    def _see_clusters(self, x: Tensor, units: Tensor, assignment: Tensor) -> None:
        """Read the new clusters; for subclasses that need more of them.

        Args:
            x: (U, D) the vectors that were clustered.
            units: (U,) their units, or utterances.
            assignment: (U,) their clusters, -1 for none.
        """

    def _assign(self, units: Tensor, cluster: Tensor) -> None:
        """Give every utterance the cluster (U,) of its unit, or none if the unit was not clustered."""
        cluster = torch.where(cluster < 0, self.clusters, cluster).int()
        if self.unit is None:
            self.assignment.fill_(self.clusters)[units] = cluster
        else:
            of = self.assignment.new_full((int(self.unit.max()) + 1,), self.clusters)
            of[units] = cluster
            self.assignment.copy_(of[self.unit])

    def partition(self) -> Tensor:
        return torch.where(self.assignment < self.clusters, self.assignment, -1)

    def _reachable(self, centroids: Tensor, occupied: Tensor) -> Tensor:
        """Return the clusters to draw from for each cluster, like :attr:`near`."""
        k, m = len(centroids), self.options.neighbours
        table = torch.full_like(self.near, -1)
        if m == 0:
            table[:k, 0] = torch.arange(k, device=table.device)
        elif k > 1:
            near = nearest_clusters(centroids, occupied, table.shape[1])
            table[:k, : near.shape[1]] = near
        return table

    def _groups(self, given: Tensor, known: Tensor) -> Groups | None:
        """Return the groups that ``mask_cluster`` excludes from the negatives; ``None`` without it.

        Args:
            given: (B,) the cluster of the pseudo-positive of each utterance of the step.
            known: (B,) whether the utterance has one.
        """
        if not self.options.mask_cluster:
            return None
        return Groups(self.assignment, torch.where(known, given, self.clusters).int(), self.clusters)

    @property
    def members(self) -> Buckets:
        """The utterances of each cluster."""
        if self._members is None:
            self._members = Buckets(self.assignment, self.clusters)
        return self._members

    @property
    def cluster_of(self) -> Tensor:
        """(size,) the cluster of the utterance in each slot of the queue, K for none."""
        if self._cluster_of is None:
            ids = self.queue.ids
            self._cluster_of = self.assignment[ids].masked_fill_(ids < 0, self.clusters)
        return self._cluster_of

    def _draw_clusters(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a cluster for each anchor (B,), -1 for none, and a number in [0, 1) to draw its member."""
        seed = draw_seed(self.setting.seed, *self._place(), 0x5353)
        dice = to_device(torch.rand(2, len(ids), generator=torch.Generator().manual_seed(seed)), ids.device)
        near = self.near[self.assignment[ids]]  # (B, M)
        if near.shape[1] == 1:
            return near[:, 0], dice[1]
        available = (near >= 0).sum(1)  # missing neighbours are at the end
        decay = self.options.decay if self.options.choice == "exponential" else 0.0
        weights = torch.exp(-decay * torch.arange(near.shape[1], device=ids.device))
        rank = draw_rank(available, weights, dice[0])
        return near.gather(1, rank[:, None]).flatten(), dice[1]
