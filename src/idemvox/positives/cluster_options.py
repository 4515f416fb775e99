"""The options of samplers that draw from clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from idemvox.clustering.kmeans import Start
from idemvox.errors import RecipeError
from idemvox.registry import Memory

__all__ = ["ClusterOptions", "check_choices"]

Choice = Literal["uniform", "exponential"]
Clusterer = Literal["kmeans", "agglomerative"]


def check_choices(options: Any, allowed: Mapping[str, Any]) -> None:
    """Check that each named option is one of its literals.

    Raises:
        RecipeError: one is not.
    """
    for name, literal in allowed.items():
        if getattr(options, name) not in get_args(literal):
            known = " or ".join(map(repr, get_args(literal)))
            raise RecipeError(f"positives.{name} must be {known}, not {getattr(options, name)!r}")


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How to cluster utterances and draw a cluster; the defaults are from section 4 of the SSPS paper.

    Attributes:
        clusters: number K of clusters. ``None``, only with ``clusterer: agglomerative``, chooses the cut with
            the highest mean silhouette in each epoch (:func:`~idemvox.clustering.silhouette.choose_cut`).
        neighbours: number M of nearest clusters to draw from; 0 draws from the anchor's cluster.
        queue: size of the positive queue Q'; ``None``: the number of clusters.
        choice: how one of the M nearest clusters is drawn: ``uniform`` (eq. 5), or ``exponential``, in
            proportion to exp(-``decay`` r) for the cluster of rank r, from 0. The public code offers the
            latter; its exact form comes from notes on that code.
        decay: decay of the exponential choice; the public code has 0.7.
        mask_cluster: whether to exclude utterances of the anchor's cluster from its negatives, and
            pseudo-positives from that cluster too. Frameworks without negatives ignore it.
        iterations: iterations of k-means.
        start: how the first centroids are chosen; see
            :func:`~idemvox.clustering.kmeans.spherical_kmeans`.
        restarts: number of runs of k-means; the best is used.
        seconds: length of the reference crop.
        refresh: whether to compute all references and targets again before every epoch, in a forward pass.
            The paper does so once and then lets training overwrite them. The pass takes time, but on a small
            corpus at a high learning rate the encoder changes so much in an epoch that old and new references
            do not match. Steps then compute no references.
        whiten: power of the singular values that references are divided by before clustering, as
            :func:`~idemvox.clustering.whitening.whiten` does; 0, as in the paper, leaves them as they are.
            The largest differences between the representations of a small encoder often come from the
            recording. 0.5 found more utterances of the anchor's speaker, also from other recordings, for
            every K that we tried.
        clusterer: ``kmeans`` or ``agglomerative`` (average linkage by cosine).
        exact_up_to: most vectors that agglomeration merges one by one; more are first reduced to that number
            of small clusters by k-means.
    """

    clusters: Memory[int | None] = 25_000
    neighbours: int = 1
    queue: Memory[int | None] = None
    choice: Choice = "uniform"
    decay: float = 0.7
    mask_cluster: bool = False
    iterations: int = 10
    start: Start = "random"
    restarts: int = 1
    seconds: Memory[float] = 4.0
    refresh: bool = False
    whiten: float = 0.0
    clusterer: Clusterer = "kmeans"
    exact_up_to: int = 50_000

    moved: ClassVar[Mapping[str, str]] = {
        "sampling": "leave it out for SSPS's stored utterances; for centroids use "
        "positives.name=ssps_centroid, for the nearest stored embedding positives.name=nearest_neighbour"
    }
    """What to write instead of an option that no longer exists."""

    def __post_init__(self) -> None:
        check_choices(self, {"choice": Choice, "clusterer": Clusterer, "start": Start})
        few = self.clusters is not None and self.clusters < 2
        if few or self.neighbours < 0 or (self.queue is not None and self.queue < 1):
            raise RecipeError(
                "positives.clusters must be at least 2, positives.neighbours at least 0, and positives.queue "
                "at least 1"
            )
        if not 0 <= self.decay < float("inf"):
            raise RecipeError(f"positives.decay must be at least 0, not {self.decay}")
        if not 0 <= self.whiten <= 1:
            raise RecipeError(f"positives.whiten must be a power from 0 to 1, not {self.whiten}")
        if self.clusters is None and self.clusterer != "agglomerative":
            raise RecipeError(
                "positives.clusters=null, which chooses the number by the silhouette, needs "
                "positives.clusterer=agglomerative: set that, or give a number of clusters"
            )
        for name, least in (("restarts", 1), ("exact_up_to", 2)):
            if getattr(self, name) < least:
                raise RecipeError(f"positives.{name} must be at least {least}, not {getattr(self, name)}")
