"""MoCo for speakers, alone and with prototypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.memory import NegativeQueue
from idemvox.frameworks.parts.projector import Projector
from idemvox.frameworks.parts.prototypes import PrototypeBank
from idemvox.frameworks.parts.teacher import follow, teacher_of
from idemvox.losses.memory import memory_nce
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["MoCo", "MoCoProtoNCE"]


@FRAMEWORKS.register("moco")
class MoCo(Paired):
    """Find the other crop of an utterance among the embeddings of many earlier utterances.

    He et al. (2020), with the settings for speakers of the SSPS authors' code: no projector, and in both
    directions, so that each crop is a query and a key. Keys are made by a momentum encoder, which follows the
    encoder slowly; those of the last steps are the negatives. The encoder is evaluated and shipped.

    The queue holds keys by utterance: an anchor's negatives never include its own utterance, nor its
    pseudo-positive, nor what the sampler excludes. (The public code's queue begins with random vectors and
    knows no utterances.) The keys of a batch are not shuffled between ranks as in the paper, because batch
    normalisation is over the batches of all ranks here, as it is with one process.

    With SSPS both keys of an utterance are replaced by those of one pseudo-positive, as in the public code.
    The queue gets the utterances' own keys; the public code's gets the replaced ones.
    """

    disjoint = False
    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2, "queue": 20}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code.

        Attributes:
            temperature: temperature of the softmax.
            momentum: of the momentum encoder, constant.
            queue: number of negatives.
            symmetric: whether both crops are queries; otherwise the anchor only, as in the MoCo paper, and
                a step needs less computation.
            margin: of each positive; 0 is none.
            angular: whether the margin is one of the angle, in radians.
            hidden: width of a projector's hidden layer; ``None``: no projector.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        temperature: float = 0.03
        momentum: float = 0.999
        queue: Memory[int] = 32_768
        symmetric: bool = True
        margin: float = 0.0
        angular: bool = False
        hidden: int | None = None
        outputs: int = 128
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.queue < 1 or not 0 <= self.momentum <= 1 or self.temperature <= 0:
                raise RecipeError("moco needs queue >= 1, momentum from 0 to 1 and temperature > 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        self.projector = Projector(encoder.dim, o.hidden, o.outputs) if o.hidden else nn.Identity()
        self.teacher, self.teacher_projector = teacher_of(encoder), teacher_of(self.projector)
        self.queue = NegativeQueue(o.queue, self.embedding_dim)

    @property
    def sides(self) -> tuple[str, ...]:
        """The views that keys are computed from; each is the positive of the other's queries."""
        return ("anchor", "positive") if self.options.symmetric else ("positive",)

    @property
    def width(self) -> int:
        """Width D of a key."""
        return int(self.options.outputs if self.options.hidden else self.encoder.dim)

    @property
    def embedding_dim(self) -> int:
        return len(self.sides) * self.width

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        super().begin_with(weights)
        self.teacher.load_state_dict(weights)

    def project(self, representation: Tensor) -> Tensor:
        projection: Tensor = self.projector(representation)
        return projection

    @torch.no_grad()
    def key(self, batch: Batch, view: str) -> Tensor:
        """Return the keys (B, D) of a view, of norm 1."""
        return F.normalize(self.teacher_projector(self.teacher(batch.views[view][:, 0])).float(), dim=1)

    def target(self, batch: Batch) -> Tensor:
        """Return the keys of each side, one after the other: (B, S D)."""
        return torch.cat([self.key(batch, side) for side in self.sides], 1)

    def apart(self, keys: Tensor) -> tuple[Tensor, ...]:
        """Return the keys (N, S D) of each side (N, D)."""
        return keys.chunk(len(self.sides), 1)

    def terms(self, query: Tensor, key: Tensor, negatives: Tensor, excluded: Tensor) -> dict[str, Tensor]:
        """Return the terms of the loss of one side.

        Args:
            query: (B, D) of this rank's utterances.
            key: (B, D) their positives.
            negatives: (Q, D).
            excluded: (B, Q) which negatives not to compare a query with.
        """
        o = self.options
        loss = memory_nce(query, key, negatives, o.temperature, excluded, margin=o.margin, angular=o.angular)
        return {"contrast": loss}

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        ids, keys = gather(batch.ids), self.target(batch)
        swap = positives(batch.ids, keys)
        excluded = own(self.queue.excluded(ids, swap))  # (B, Q)
        sides = []
        for other, key, negatives in zip(
            ("positive", "anchor")[-len(self.sides) :],  # whose positive each side's key is
            self.apart(own(swap.targets)),
            self.apart(self.queue.vectors),
            strict=True,
        ):
            query = self.project(self.encoder(batch.views[other][:, 0]))  # (B, D)
            sides.append(self.terms(query, key, negatives, excluded))
        if self.training:
            self.queue.push(ids, gather(keys))
        terms = {name: torch.stack([side[name] for side in sides]).mean() for name in sides[0]}
        numbers = {name: value.detach() for name, value in terms.items()} if len(terms) > 1 else {}
        return Step(torch.stack(list(terms.values())).sum(), numbers, swap)

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.encoder, self.options.momentum)
        if self.options.hidden:
            follow(self.teacher_projector, self.projector, self.options.momentum)


@FRAMEWORKS.register("moco_protonce")
class MoCoProtoNCE(MoCo):
    """MoCo that also finds the prototype of an utterance's cluster among all prototypes.

    Xia et al. (2021), after PCL (Li et al., 2021): before each epoch the keys in the queue are clustered by
    k-means, for several numbers of clusters, and each cluster's concentration is its temperature. An anchor's
    prototype is the one nearest to its key; it is compared with all of a clustering, not with a draw of them.

    We did not have the paper, so the settings are those of a third party's reimplementation. It passes keys
    through the query's projector and clusters queries; here, keys have a momentum projector and are clustered
    themselves. A queue longer than the corpus holds several keys of an utterance.

    With SSPS an anchor's prototype is that of its pseudo-positive.
    """

    tiny: ClassVar[Mapping[str, Any]] = {**MoCo.tiny, "clusters": (3, 4), "prototypes_from": 1}

    @dataclass(frozen=True, slots=True)
    class Options(MoCo.Options):
        """Those of :class:`MoCo`, and of the prototypes; defaults: the reimplementation's.

        Attributes:
            clusters: number of clusters of each clustering.
            weight: of ProtoNCE, its mean over clusterings.
            prototypes_from: first epoch with ProtoNCE, from 0.
            iterations: of k-means.
        """

        temperature: float = 0.07
        queue: Memory[int] = 10_000
        symmetric: bool = False
        hidden: int | None = 512
        outputs: int = 512
        clusters: Memory[tuple[int, ...]] = (5_000,)
        weight: float = 0.25
        prototypes_from: int = 60
        iterations: int = 20

        def __post_init__(self) -> None:
            MoCo.Options.__post_init__(self)  # super() does not work in a dataclass with slots
            if not self.clusters or min(self.clusters) < 2 or self.weight < 0:
                raise RecipeError("moco_protonce needs clusters of 2 or more each, and weight >= 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.bank = PrototypeBank(self.options.clusters, self.width, self.options.iterations)
        self._has_prototypes = False

    def start_epoch(self, epoch: int) -> None:
        o = self.options
        if epoch >= o.prototypes_from:
            keys = self.apart(self.queue.vectors)[-1][self.queue.ids >= 0]
            self._has_prototypes = self.bank.fit(keys, epoch, o.temperature)

    def terms(self, query: Tensor, key: Tensor, negatives: Tensor, excluded: Tensor) -> dict[str, Tensor]:
        loss = self.bank.loss(query, key) if self._has_prototypes else query.new_zeros(())
        contrast = super().terms(query, key, negatives, excluded)
        return {**contrast, "prototypes": self.options.weight * loss.to(contrast["contrast"].dtype)}
