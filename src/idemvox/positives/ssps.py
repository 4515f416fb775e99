"""SSPS: self-supervised positive sampling (Lepage & Dehak, Interspeech 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Groups, Swap
from idemvox.clustering.kmeans import check_rows
from idemvox.clustering.neighbours import mutual_share, nearest_within
from idemvox.clustering.shards import RowShards
from idemvox.clustering.whitening import whiten
from idemvox.corpus.crops import Crop, Views
from idemvox.devices import to_device
from idemvox.draws import draw_seed
from idemvox.errors import CorpusError, RunError
from idemvox.positives.base import Positives, Setting
from idemvox.positives.drawing import Buckets, draw_rank, draw_slots, nearest_clusters
from idemvox.positives.partition import find_clusters, size_numbers
from idemvox.positives.queue import EmbeddingQueue, write_rows
from idemvox.positives.ssps_options import SSPSOptions
from idemvox.positives.units import OtherRecordings, draw_near, number_units, unit_means
from idemvox.registry import POSITIVES

__all__ = ["SSPS"]


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
    (``sample_from: queue``, the default): about 1 - 1/e = 63 %.  The share replaced is logged as coverage;
    a queue of 2 K or 3 K raises it to 86 or 95 %.

    What the positive is, ``sampling``:

    * ``representation``: the stored embedding of one utterance of the cluster, as above.
    * ``centroid`` (the public code's ``kmeans``): the mean direction of the embeddings that the queue now
      holds of the cluster, but for the anchor's, at the length of the target that it replaces; so it is in
      the space of targets, as k-means' own centroid, of references, need not be.  Where the queue holds
      none, the anchor's own positive stays.  It is no utterance's, so its accuracy is not counted.
    * ``neighbour`` (NNCLR, Dwibedi et al., 2021): the stored embedding most similar (cosine) to the anchor's
      own target, of any other utterance.  It makes neither references nor clusters.

    Beyond the paper, each by itself or with the others:

    * ``clusterer: agglomerative``: average linkage by cosine, which made purer clusters than k-means of every
      size tried.
    * ``unit: recording``: which utterances are of one recording (a video, a call) is known without any
      speaker's label.  The mean reference of each recording is clustered, and the pseudo-positive is an
      utterance of another recording.  A run that uses this says "recordings known" in its provenance and
      results.
    * ``level: view``: the positive view is cut from the pseudo-positive utterance and encoded with a
      gradient, as :class:`~idemvox.positives.supervised.Supervised` does; one is drawn for each utterance
      and epoch.  No target is stored.  A pass before each epoch makes the references, steps make none.
    """

    needs_fill = True
    tiny: ClassVar[Mapping[str, Any]] = {"clusters": 6, "seconds": 0.3, "iterations": 3}

    Options = SSPSOptions

    reference: Tensor
    """Q-hat: (N, dim), by utterance; of no rows where nothing is clustered, nor have the next two."""
    seen: Tensor
    """(N,) whether an utterance has a reference."""
    assignment: Tensor
    """(N,) cluster of each utterance in this epoch, K for none, as before the first k-means."""
    near: Tensor
    """(K + 1, max(M, 1)) the clusters to draw from, for each cluster; the last for those in none: -1."""
    unit: Tensor | None
    """(N,) the recording of each utterance; ``None`` where utterances are clustered."""
    closest: Tensor | None
    """(U, L) the other recordings that may be drawn for each; ``None``: all of the cluster."""
    epoch: Tensor
    step: Tensor

    def __init__(self, options: SSPSOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options: SSPSOptions = options
        self.viewed = options.level == "view"
        self.stores = not self.viewed
        self.refresh = options.refresh or self.viewed
        self.clustered = options.sampling != "neighbour"
        unit = self._units(options, setting)
        units = setting.utterances if unit is None else int(unit.max()) + 1
        self.clusters = min(options.clusters or units, units)
        slots = options.queue or (options.clusters if unit is None else None) or setting.utterances
        self.queue = EmbeddingQueue(1 if self.viewed else slots, setting.embedding_dim, setting.utterances)
        n = setting.utterances if self.clustered else 0
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
        most = options.nearest_recordings
        self.register_buffer("closest", None if most is None else torch.full((units, most), -1))
        self._at: tuple[int, int] | None = None
        self._others: OtherRecordings | None = None
        self._paired: tuple[int, Tensor] | None = None
        self._members: Buckets | None = None
        self._cluster_of: Tensor | None = None

    @classmethod
    def needs_recordings(cls, options: Any) -> bool:
        return bool(options.unit == "recording")

    @staticmethod
    def _units(options: SSPSOptions, setting: Setting) -> Tensor | None:
        """Number the recordings, if they are what is clustered."""
        if options.unit == "utterance":
            return None
        recordings = setting.recordings
        if recordings is None or not (recordings >= 0).any():
            raise CorpusError(
                "ssps unit=recording needs to know which utterances are of one recording, and the corpus "
                "does not say: fill in the column `recording` of the manifest (and pack again), "
                "or use unit=utterance"
            )
        return number_units(recordings)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Restore a state, and forget what was derived from the clusters that it replaces."""
        self._members = self._cluster_of = self._others = self._paired = self._at = None
        return super().load_state_dict(*args, **kwargs)

    def _place(self) -> tuple[int, int]:
        """Return the epoch and the step in it; known on the host, so that no device is asked."""
        if self._at is None:
            self._at = int(self.epoch), int(self.step)
        return self._at

    def next_step(self) -> None:
        """Go to the next step of the epoch: other draws for the same anchors."""
        epoch, step = self._place()
        self._at = epoch, step + 1
        self.step += 1

    def views(self) -> Views:
        return {"reference": Crop(1, self.options.seconds, augment=False)} if self.clustered else {}

    @torch.no_grad()
    def observe(self, ids: Tensor, reference: Tensor) -> None:
        write_rows(self.reference, ids, reference)
        self.seen[ids] = True

    def store(self, ids: Tensor, targets: Tensor) -> None:
        if self.viewed:
            return
        held, slots = self.queue.push(ids, targets)
        if self._cluster_of is not None:
            self._cluster_of[slots] = self.assignment[held].masked_fill_(held < 0, self.clusters)

    def start_epoch(self, epoch: int) -> dict[str, float]:
        """Cluster the references as they stand; utterances never seen are in no cluster."""
        self.epoch.fill_(epoch)
        self.step.zero_()
        self._at = epoch, 0
        numbers = self._cluster(epoch) if self.clustered else {}
        return numbers if self.viewed else {**numbers, "queue_filled": self.queue.filled}

    def _cluster(self, epoch: int) -> dict[str, float]:
        seen = self.seen.nonzero().flatten()
        if len(seen) == 0:
            raise RunError("ssps has no reference representations yet: run the fill pass first")
        x = self.reference if len(seen) == len(self.seen) else self.reference[seen]
        if self.options.whiten or self.unit is not None:
            check_rows(RowShards(x, seen), x.any(dim=1))  # while the rows are utterances
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
        if self.closest is not None:
            near = nearest_within(x, found.assignment, self.closest.shape[1])
            self.closest.fill_(-1)[units] = torch.where(near < 0, -1, units[near])
        self._members = self._cluster_of = self._others = self._paired = None
        return {
            **size_numbers(self.assignment, before, self.clusters),
            "cluster_cosine": float(found.similarity.mean()),
            "mutual_neighbours": mutual_share(x),
            **({} if self.unit is None else {"recordings": float(len(units))}),
        }

    def _assign(self, units: Tensor, cluster: Tensor) -> None:
        """Give every utterance the cluster of its unit (U,), none if that was not clustered."""
        cluster = torch.where(cluster < 0, self.clusters, cluster).int()
        if self.unit is None:
            self.assignment.fill_(self.clusters)[units] = cluster
        else:
            of = self.assignment.new_full((int(self.unit.max()) + 1,), self.clusters)
            of[units] = cluster
            self.assignment.copy_(of[self.unit])

    def partition(self) -> Tensor | None:
        if not self.clustered:
            return None
        return torch.where(self.assignment < self.clusters, self.assignment, -1)

    def _reachable(self, centroids: Tensor, occupied: Tensor) -> Tensor:
        k, m = len(centroids), self.options.neighbours
        table = torch.full_like(self.near, -1)
        if m == 0:
            table[:k, 0] = torch.arange(k, device=table.device)
        elif k > 1:
            near = nearest_clusters(centroids, occupied, table.shape[1])
            table[:k, : near.shape[1]] = near
        return table

    @property
    def others(self) -> OtherRecordings:
        """What draws another unit's utterance."""
        if self._others is None:
            unit = torch.arange(len(self.assignment), device=self.near.device)
            self._others = OtherRecordings(
                unit if self.unit is None else self.unit, self.assignment, self.clusters, self.closest
            )
        return self._others

    def _draw_others(self, ids: Tensor, *numbers: int) -> Tensor:
        """Draw a pseudo-positive for each anchor (B,) by the seed's ``numbers``; -1 for none."""
        seed = draw_seed(self.setting.seed, *numbers)
        dice = to_device(torch.rand(3, len(ids), generator=torch.Generator().manual_seed(seed)), ids.device)
        decay = self.options.decay if self.options.choice == "exponential" else 0.0
        cluster = draw_near(self.near[self.assignment[ids]], decay, dice[0])
        return self.others.draw(ids, cluster, dice[1:])

    @torch.no_grad()
    def pairs(self, epoch: int) -> Tensor:
        """Return (N,) the pseudo-positive of each utterance in an epoch, -1 for none (``level: view``)."""
        if self._paired is None or self._paired[0] != epoch:
            everyone = torch.arange(self.setting.utterances, device=self.near.device)
            self._paired = epoch, self._draw_others(everyone, epoch, 0x5057)
        return self._paired[1]

    def partners(self, epoch: int) -> npt.NDArray[np.int64] | None:
        if not self.viewed:
            return None
        pairs = self.pairs(epoch).cpu().numpy()
        return np.where(pairs < 0, np.arange(len(pairs)), pairs)

    def _groups(self, given: Tensor, known: Tensor) -> Groups | None:
        """Return what ``mask_cluster`` keeps out of the negatives.

        Args:
            given: (B,) the cluster of what stands in for each utterance of the step.
            known: (B,) whether anything does.
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
        """(size,) the cluster of what is in each slot of the queue, K for none."""
        if self._cluster_of is None:
            ids = self.queue.ids
            self._cluster_of = self.assignment[ids].masked_fill_(ids < 0, self.clusters)
        return self._cluster_of

    def _draw_clusters(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a cluster for each anchor (B,), -1 for none; and a number in [0, 1) to draw of it by."""
        seed = draw_seed(self.setting.seed, *self._place(), 0x5353)
        dice = to_device(torch.rand(2, len(ids), generator=torch.Generator().manual_seed(seed)), ids.device)
        own = self.assignment[ids]
        near = self.near[own]  # (B, M)
        if near.shape[1] == 1:
            return near[:, 0], dice[1]
        available = (near >= 0).sum(1)  # topk puts the -1 of too few neighbours last
        decay = self.options.decay if self.options.choice == "exponential" else 0.0
        weights = torch.exp(-decay * torch.arange(near.shape[1], device=ids.device))
        rank = draw_rank(available, weights, dice[0])
        return near.gather(1, rank[:, None]).flatten(), dice[1]

    @torch.no_grad()
    def choose(self, ids: Tensor) -> Tensor:
        """Choose a pseudo-positive for each anchor (``sampling: representation``).

        Args:
            ids: (B,) anchors.

        Returns:
            (B,) queue slots, -1 where the anchor keeps its own positive.
        """
        if self.unit is not None:
            drawn = self._draw_others(ids, *self._place(), 0x5352)
            return torch.where(drawn >= 0, self.queue.find(drawn), -1)
        cluster, dice = self._draw_clusters(ids)
        if self.options.sample_from == "queue" and not self.queue.is_table:
            own = None if self.options.neighbours else ids  # no cluster is its own neighbour
            return draw_slots(self.queue, self.cluster_of, cluster, dice, self.clusters, own)
        drawn = self.members.draw(cluster, ids, dice)
        return torch.where(drawn >= 0, self.queue.find(drawn), -1)

    @torch.no_grad()
    def centroids(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centroid of a cluster drawn for each anchor (B, embedding_dim), 0 where it has none.

        It is the sum of the cluster's embeddings in the queue, without the anchor's: a direction.  With it
        come the clusters (B,).
        """
        cluster, _ = self._draw_clusters(ids)
        members, begin = self.members.members(cluster)
        slots = self.queue.find(members)
        there = slots >= 0
        slots, begin = slots[there], F.pad(there.cumsum(0), (1, 0))[begin]
        anchor = torch.bucketize(torch.arange(len(slots), device=ids.device), begin, right=True) - 1
        others = (slots != self.queue.find(ids)[anchor]).to(self.queue.vectors.dtype)
        total = F.embedding_bag(slots, self.queue.vectors, begin, mode="sum", per_sample_weights=others)
        return total, cluster

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        if self.viewed:  # the targets were cut from pseudo-positives and stay as they are
            pairs = self.pairs(self._place()[0])[ids]
            swap = Swap(targets, groups=self._groups(self.assignment[pairs.clamp_min(0)], pairs >= 0))
        elif self.options.sampling == "centroid":
            swap = self._put_centroids_in(ids, targets)
        else:
            swap = self._put_embeddings_in(ids, targets)
        self.next_step()
        return swap

    def _put_centroids_in(self, ids: Tensor, targets: Tensor) -> Swap:
        mean, cluster = self.centroids(ids)
        replaced = (mean != 0).any(1)
        stored = F.normalize(mean, dim=1) * targets.detach().norm(dim=1, keepdim=True)
        return Swap(
            torch.where(replaced[:, None], stored.to(targets.dtype), targets),
            replaced,
            torch.full_like(ids, -1),
            targets.detach(),
            self._groups(cluster, replaced),
        )

    def _put_embeddings_in(self, ids: Tensor, targets: Tensor) -> Swap:
        slots = self.choose(ids) if self.clustered else self.queue.nearest(ids, targets)
        replaced, any_slot = slots >= 0, slots.clamp_min(0)
        chosen = torch.where(replaced, self.queue.ids[any_slot], -1)
        stored = self.queue.vectors.index_select(0, any_slot).to(targets.dtype)
        swapped = torch.lerp(targets, stored, replaced[:, None].to(targets.dtype))  # exact at 0 and 1
        groups = self._groups(self.assignment[chosen.clamp_min(0)], replaced) if self.clustered else None
        return Swap(swapped, replaced, chosen, targets.detach(), groups)
