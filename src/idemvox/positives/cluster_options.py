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
            raise RecipeError(f"positives.{name} is {known}, not {getattr(options, name)!r}")


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How utterances are clustered, and how a cluster is drawn; defaults: SSPS's paper, section 4.

    ``clusters`` is K, ``neighbours`` M, ``queue`` the size of Q' (``None``: as many as clusters),
    ``seconds`` the length of the reference crop. ``refresh`` makes both queues again by a forward pass
    before every epoch, where the paper fills them once and lets training overwrite them: dearer, but on
    a small corpus at a high learning rate the encoder moves so far in an epoch that old references
    no longer agree with new ones. Steps then make no reference, which the next pass would replace.
    ``whiten`` is the power of the singular values that references are divided by before k-means, as
    :func:`~idemvox.clustering.whitening.whiten` does; 0 is the paper's. What a small encoder's
    representations differ most in is often the recording: 0.5 found more utterances of the anchor's
    speaker, also from other recordings, for every K that was tried.

    ``choice`` is how a cluster is drawn from the M nearest: ``uniform`` (eq. 5), or ``exponential``, in
    proportion to exp(-``decay`` r) for the cluster of rank r, the nearest being 0. The public code
    offers the latter with a decay of 0.7; its exact form is taken from notes on that code.
    ``mask_cluster`` leaves the utterances of the anchor's own cluster out of its negatives in a framework
    that has any, and whatever stands in for an utterance from that cluster too.

    ``start`` and ``restarts`` are k-means' (:func:`~idemvox.clustering.kmeans.spherical_kmeans`).
    ``clusterer: agglomerative`` merges up to ``exact_up_to`` vectors one by one; of more it first makes so
    many small clusters by k-means. Only with it may ``clusters`` be ``None``: then each epoch takes the
    cut of the highest mean silhouette (:func:`~idemvox.clustering.silhouette.choose_cut`).
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
    """What to write instead of an option that there was."""

    def __post_init__(self) -> None:
        check_choices(self, {"choice": Choice, "clusterer": Clusterer, "start": Start})
        few = self.clusters is not None and self.clusters < 2
        if few or self.neighbours < 0 or (self.queue is not None and self.queue < 1):
            raise RecipeError("positives need clusters >= 2, neighbours >= 0 and a queue of at least 1")
        if not 0 <= self.decay < float("inf"):
            raise RecipeError(f"positives.decay is 0 or more, not {self.decay}")
        if not 0 <= self.whiten <= 1:
            raise RecipeError(f"positives.whiten is a power from 0 to 1, not {self.whiten}")
        if self.clusters is None and self.clusterer != "agglomerative":
            raise RecipeError(
                "positives.clusters=null lets the clusters' silhouettes choose: set "
                "positives.clusterer=agglomerative, or give a number"
            )
        for name, least in (("restarts", 1), ("exact_up_to", 2)):
            if getattr(self, name) < least:
                raise RecipeError(f"positives.{name} is {least} or more, not {getattr(self, name)}")
