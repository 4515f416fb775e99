"""SSPS: self-supervised positive sampling (Lepage & Dehak, Interspeech 2025)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idemvox.batch import Swap
from idemvox.clustering.neighbours import nearest_within
from idemvox.devices import to_device
from idemvox.draws import draw_seed
from idemvox.errors import CorpusError
from idemvox.positives.base import Setting
from idemvox.positives.clusters import ClusterSampler
from idemvox.positives.drawing import draw_slots
from idemvox.positives.ssps_options import SSPSOptions
from idemvox.positives.units import OtherRecordings, draw_near, number_units
from idemvox.registry import POSITIVES

__all__ = ["SSPS"]


@POSITIVES.register("ssps")
class SSPS(ClusterSampler):
    """Replace the positive's embedding by that of a pseudo-positive utterance.

    At the start of each epoch, spherical k-means clusters the reference representations of all utterances,
    each from a clean 4-second crop with the encoder in eval mode (the queue Q-hat, section 3.1). For an
    anchor in cluster c, one of the M clusters nearest to c is drawn uniformly (eq. 5; for M = 0, c itself),
    then an utterance of that cluster (eq. 6), but never the anchor. If the positive queue Q' holds an
    embedding of that utterance, it replaces the positive's; otherwise the anchor keeps its positive.

    Paper and public code differ in eq. 6. The paper draws from all utterances of the cluster
    (``sample_from: train``). With |Q'| = K = 25,000 of 1,092,009 utterances that replaces 2.3 % of the
    positives. The code draws from the utterances that the queue holds (``sample_from: queue``, the default),
    which replaces about 1 - 1/e = 63 %. The share is logged as coverage; a queue of 2 K or 3 K raises it to
    86 or 95 %.

    Three options go beyond the paper, alone or together:

    * ``clusterer: agglomerative``: average linkage by cosine. It gave purer clusters than k-means at every
      size that we tried.
    * ``unit: recording``: often it is known, without speaker labels, which utterances come from one recording
      (a video, a call). The mean references of recordings are clustered, and the pseudo-positive is an
      utterance of another recording. A run with this option says "recordings known" in its provenance and
      results.
    * ``level: view``: the positive view is cut from the pseudo-positive utterance, as in
      :class:`~idemvox.positives.supervised.Supervised`, so it has a gradient. One is drawn for each utterance
      and epoch. No targets are stored. References are computed in a pass before each epoch, not in steps.
    """

    Options = SSPSOptions
    options: SSPSOptions

    closest: Tensor | None
    """(U, L) the recordings to draw from for each recording; ``None``: all others of its cluster."""

    def __init__(self, options: SSPSOptions, setting: Setting) -> None:
        viewed, unit = options.level == "view", self._units(options, setting)
        for_all = setting.utterances if unit is not None and options.queue is None else None
        super().__init__(options, setting, unit, 1 if viewed else for_all)
        self.viewed, self.stores = viewed, not viewed
        self.refresh = options.refresh or self.viewed
        most, units = options.nearest_recordings, setting.utterances if unit is None else int(unit.max()) + 1
        self.register_buffer("closest", None if most is None else torch.full((units, most), -1))

    def _forget(self) -> None:
        super()._forget()
        self._others: OtherRecordings | None = None
        self._paired: tuple[int, Tensor] | None = None

    @classmethod
    def needs_recordings(cls, options: Any) -> bool:
        return bool(options.unit == "recording")

    @staticmethod
    def _units(options: SSPSOptions, setting: Setting) -> Tensor | None:
        """Return (N,) recording numbers if recordings are clustered, else ``None``."""
        if options.unit == "utterance":
            return None
        recordings = setting.recordings
        if recordings is None or not (recordings >= 0).any():
            raise CorpusError(
                "positives.unit=recording needs the recording of each utterance, which the corpus does not "
                "give: fill in the column `recording` of the manifest (and pack again), or use "
                "positives.unit=utterance"
            )
        return number_units(recordings)

    def store(self, ids: Tensor, targets: Tensor) -> None:
        if self.stores:
            super().store(ids, targets)

    def _see_clusters(self, x: Tensor, units: Tensor, assignment: Tensor) -> None:
        if self.closest is not None:
            near = nearest_within(x, assignment, self.closest.shape[1])
            self.closest.fill_(-1)[units] = torch.where(near < 0, -1, units[near])

    @property
    def others(self) -> OtherRecordings:
        """Draws utterances of other units."""
        if self._others is None:
            unit = torch.arange(len(self.assignment), device=self.near.device)
            self._others = OtherRecordings(
                unit if self.unit is None else self.unit, self.assignment, self.clusters, self.closest
            )
        return self._others

    def _draw_others(self, ids: Tensor, *numbers: int) -> Tensor:
        """Draw a pseudo-positive for each anchor (B,), -1 for none; ``numbers`` select the random draw."""
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

    @torch.no_grad()
    def choose(self, ids: Tensor) -> Tensor:
        """Choose a pseudo-positive for each anchor.

        Args:
            ids: (B,) anchors.

        Returns:
            (B,) queue slots, -1 where the anchor keeps its positive.
        """
        if self.unit is not None:
            drawn = self._draw_others(ids, *self._place(), 0x5352)
            return torch.where(drawn >= 0, self.queue.find(drawn), -1)
        cluster, dice = self._draw_clusters(ids)
        if self.options.sample_from == "queue" and not self.queue.is_table:
            excluded = None if self.options.neighbours else ids  # a cluster is never its own neighbour
            return draw_slots(self.queue, self.cluster_of, cluster, dice, self.clusters, excluded)
        drawn = self.members.draw(cluster, ids, dice)
        return torch.where(drawn >= 0, self.queue.find(drawn), -1)

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        if self.viewed:  # the views were cut from pseudo-positives
            pairs = self.pairs(self._place()[0])[ids]
            swap = Swap(targets, groups=self._groups(self.assignment[pairs.clamp_min(0)], pairs >= 0))
        else:
            slots = self.choose(ids)
            swap = self.queue.put_in(slots, targets)
            drawn = self.assignment[self.queue.ids[slots.clamp_min(0)]]
            swap = replace(swap, groups=self._groups(drawn, slots >= 0))
        self.next_step()
        return swap
