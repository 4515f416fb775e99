"""What may be chosen of SSPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from idemvox.clustering.kmeans import Start
from idemvox.errors import RecipeError
from idemvox.registry import Memory

__all__ = ["SSPSOptions"]

Sampling = Literal["representation", "centroid", "neighbour"]
Choice = Literal["uniform", "exponential"]
SampleFrom = Literal["queue", "train"]
Clusterer = Literal["kmeans", "agglomerative"]
Unit = Literal["utterance", "recording"]
Level = Literal["embedding", "view"]
_ALLOWED = {
    "sampling": Sampling,
    "choice": Choice,
    "sample_from": SampleFrom,
    "clusterer": Clusterer,
    "unit": Unit,
    "level": Level,
    "start": Start,
}


@dataclass(frozen=True, slots=True)
class SSPSOptions:
    """The options of SSPS; defaults: the paper's, for VoxCeleb2 (section 4).

    ``clusters`` is K, ``neighbours`` M, ``queue`` the size of Q' (``None``: as many as clusters),
    ``seconds`` the length of the reference crop.  ``refresh`` makes both queues anew by a forward pass
    before every epoch, where the paper fills them once and lets training overwrite them: dearer, but on
    a small corpus at a high learning rate the encoder moves so far in an epoch that old references
    no longer agree with new ones.  Steps then make no reference, which the next pass would replace.
    ``whiten`` is the power of the singular values that references are divided by before k-means, as
    :func:`~idemvox.clustering.whitening.whiten` does; 0 is the paper's.  What a small encoder's
    representations differ most in is often the recording: 0.5 found more utterances of the anchor's
    speaker, also from other recordings, for every K that was tried.

    ``choice`` is how a cluster is drawn from the M nearest: ``uniform`` (eq. 5), or ``exponential``, in
    proportion to exp(-``decay`` r) for the cluster of rank r, the nearest being 0.  The public code
    offers the latter with a decay of 0.7; its exact form is taken from notes on that code.
    ``mask_cluster`` leaves the utterances of the anchor's own cluster out of its negatives in a framework
    that has any, and whatever stands in for an utterance from that cluster too.
    With ``sampling: neighbour`` only ``queue`` (``None``: ``clusters``) and ``refresh`` are read.

    ``start`` and ``restarts`` are k-means' (:func:`~idemvox.clustering.kmeans.spherical_kmeans`).
    ``clusterer: agglomerative`` merges up to ``exact_up_to`` units one by one; of more it first makes so
    many small clusters by k-means.  Only with it may ``clusters`` be ``None``: then each epoch takes the
    cut of the highest mean silhouette (:func:`~idemvox.clustering.silhouette.choose_cut`).
    With ``unit: recording`` K counts clusters of recordings.  Recordings are told apart by name alone;
    an utterance whose recording is unknown is one by itself.  A recording is drawn from the cluster,
    then one of its utterances, and the anchor's positive stays where the queue does not hold that; so
    the queue by default has room for all.  With M = 0 the anchor's own recording is left out, and
    ``nearest_recordings`` draws from so many others of the cluster at most, those nearest to it.
    ``level: view`` reads no option of the queue.
    """

    clusters: Memory[int | None] = 25_000
    neighbours: int = 1
    queue: Memory[int | None] = None
    sampling: Sampling = "representation"
    sample_from: SampleFrom = "queue"
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
    unit: Unit = "utterance"
    nearest_recordings: int | None = None
    level: Level = "embedding"

    def __post_init__(self) -> None:
        few = self.clusters is not None and self.clusters < 2
        if few or self.neighbours < 0 or (self.queue is not None and self.queue < 1):
            raise RecipeError("ssps needs clusters >= 2, neighbours >= 0 and a queue of at least 1")
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in get_args(allowed):
                known = " or ".join(map(repr, get_args(allowed)))
                raise RecipeError(f"ssps {name} is {known}, not {getattr(self, name)!r}")
        if self.sampling != "representation" and self.sample_from == "train":
            raise RecipeError(
                f"ssps sampling {self.sampling!r} knows only what is stored: leave sample_from out"
            )
        if self.sampling == "neighbour" and self.mask_cluster:
            raise RecipeError("ssps sampling 'neighbour' makes no clusters: leave mask_cluster out")
        if not 0 <= self.decay < float("inf"):
            raise RecipeError(f"ssps decay is 0 or more, not {self.decay}")
        if not 0 <= self.whiten <= 1:
            raise RecipeError(f"ssps whiten is a power from 0 to 1, not {self.whiten}")
        self._check_beyond_the_paper()

    def _check_beyond_the_paper(self) -> None:
        if self.clusters is None and (self.clusterer != "agglomerative" or self.sampling == "neighbour"):
            raise RecipeError(
                "ssps clusters=null lets the clusters' silhouettes choose: set clusterer=agglomerative, "
                "or give a number"
            )
        if self.restarts < 1:
            raise RecipeError(f"ssps restarts is 1 or more, not {self.restarts}")
        if self.exact_up_to < 2:
            raise RecipeError(f"ssps exact_up_to is 2 or more, not {self.exact_up_to}")
        if self.sampling != "representation":
            for name, plain in (("unit", "utterance"), ("level", "embedding")):
                if getattr(self, name) != plain:
                    raise RecipeError(
                        f"ssps {name}={getattr(self, name)} needs sampling=representation, "
                        f"not {self.sampling}"
                    )
        if self.level == "view" and (self.queue is not None or self.sample_from == "train"):
            raise RecipeError("ssps level=view stores no embeddings: leave queue and sample_from out")
        if self.nearest_recordings is not None and (
            self.nearest_recordings < 1 or self.unit != "recording" or self.neighbours
        ):
            raise RecipeError("ssps nearest_recordings is 1 or more, with unit=recording and neighbours=0")
