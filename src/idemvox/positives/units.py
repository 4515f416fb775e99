"""Units that a sampler clusters: utterances, or the recordings that they were cut from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.clustering.kmeans import cluster_sums
from idemvox.positives.drawing import Buckets, draw_rank

__all__ = ["OtherRecordings", "draw_near", "number_units", "unit_means"]


def number_units(recordings: npt.NDArray[np.int64]) -> Tensor:
    """Return (N,) the unit of each utterance: its recording, or the utterance itself if that is -1.

    Units are numbered from 0 in the order of their first utterances.
    """
    alone = int(recordings.max(initial=-1)) + 1 + np.arange(len(recordings))
    names = np.where(recordings < 0, alone, recordings)
    _, first, which = np.unique(names, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[first.argsort()] = np.arange(len(first))
    return torch.from_numpy(order[which])


def unit_means(x: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
    """Average the normalised vectors of each unit.

    Args:
        x: (S, D) vectors of any norm.
        unit: (S,) the unit of each.

    Returns:
        (U, D) means, and (U,) their units, ascending.
    """
    units, which, count = unit.unique(return_inverse=True, return_counts=True)
    return cluster_sums(F.normalize(x.float(), dim=1), which, len(units)) / count[:, None], units


def draw_near(near: Tensor, decay: float, uniform: Tensor) -> Tensor:
    """Draw one of the clusters near each anchor.

    Args:
        near: (B, M) clusters, nearest first; -1 at the end if there are fewer.
        decay: the weight of the cluster of rank r is exp(-decay r).
        uniform: (B,) random numbers in [0, 1).

    Returns:
        (B,) clusters, -1 where there is none.
    """
    available = (near >= 0).sum(1)
    weights = torch.exp(-decay * torch.arange(near.shape[1], device=near.device))
    return near.gather(1, draw_rank(available, weights, uniform)[:, None]).flatten()


class OtherRecordings:
    """Draws an utterance of another unit of a cluster: first a unit, then one of its utterances.

    So a recording with many utterances is drawn as often as one with few.

    Args:
        unit: (N,) the unit of each utterance.
        assignment: (N,) the cluster of each utterance, the same for all utterances of a unit; K for none.
        clusters: number K of clusters.
        closest: (U, L) the units to draw from for each unit, -1 at the end if there are fewer; ``None``: all
            other units of its cluster.
    """

    def __init__(
        self, unit: Tensor, assignment: Tensor, clusters: int, closest: Tensor | None = None
    ) -> None:
        units = int(unit.max()) + 1
        cluster = torch.full((units,), clusters, dtype=assignment.dtype, device=unit.device)
        cluster[unit] = assignment
        self.unit, self.closest = unit, closest
        self.of_cluster, self.of_unit = Buckets(cluster, clusters), Buckets(unit, units)

    def draw(self, anchors: Tensor, cluster: Tensor, uniform: Tensor) -> Tensor:
        """Draw an utterance for each anchor.

        Args:
            anchors: (B,) utterances, whose units are never drawn.
            cluster: (B,) clusters to draw from; -1 gives -1.
            uniform: (2, B) random numbers in [0, 1).

        Returns:
            (B,) utterances, -1 where there is none to draw.
        """
        unit = self.unit[anchors]
        if self.closest is None:
            other = self.of_cluster.draw(cluster, unit, uniform[0])
        else:
            other = draw_near(self.closest[unit], 0.0, uniform[0])
        return self.of_unit.draw(other, anchors, uniform[1])
