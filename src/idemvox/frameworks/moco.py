"""MoCo for speakers: a momentum encoder, and a queue of negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.memory import NegativeQueue
from idemvox.frameworks.parts.teacher import follow, teacher_of
from idemvox.losses.memory import memory_nce
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["MoCo"]


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
            momentum: of the momentum encoder, constant.
            queue: number of negatives.
            symmetric: whether both crops are queries; otherwise the anchor only, as in the MoCo paper, and
                a step needs less computation.
            margin: of each positive; 0 is none.
            angular: whether the margin is one of the angle, in radians.
        """

        temperature: float = 0.03
        momentum: float = 0.999
        queue: Memory[int] = 32_768
        symmetric: bool = True
        margin: float = 0.0
        angular: bool = False
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.queue < 1 or not 0 <= self.momentum <= 1 or self.temperature <= 0:
                raise RecipeError("moco needs queue >= 1, momentum from 0 to 1 and temperature > 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.teacher = teacher_of(encoder)
        self.queue = NegativeQueue(self.options.queue, self.embedding_dim)

    @property
    def sides(self) -> tuple[str, ...]:
        """The views that keys are made of; each is the positive of the other's queries."""
        return ("anchor", "positive") if self.options.symmetric else ("positive",)

    @property
    def embedding_dim(self) -> int:
        return len(self.sides) * self.encoder.dim

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        super().begin_with(weights)
        self.teacher.load_state_dict(weights)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """Return the keys of each side, of norm 1, one after the other: (B, S D)."""
        keys = [F.normalize(self.teacher(batch.views[side][:, 0]).float(), dim=1) for side in self.sides]
        return torch.cat(keys, 1)

    def apart(self, keys: Tensor) -> tuple[Tensor, ...]:
        """Return the keys (N, S D) of each side (N, D)."""
        return keys.chunk(len(self.sides), 1)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o, ids, keys = self.options, gather(batch.ids), self.target(batch)
        swap = positives(batch.ids, keys)
        excluded = own(self.queue.excluded(ids, swap))  # (B, Q)
        losses = []
        for other, key, negatives in zip(
            ("positive", "anchor")[-len(self.sides) :],  # whose positive each side's key is
            self.apart(own(swap.targets)),
            self.apart(self.queue.vectors),
            strict=True,
        ):
            query = self.encoder(batch.views[other][:, 0])  # (B, D)
            losses.append(
                memory_nce(query, key, negatives, o.temperature, excluded, margin=o.margin, angular=o.angular)
            )
        if self.training:
            self.queue.push(ids, gather(keys))
        return Step(torch.stack(losses).mean(), swap=swap)

    def after_step(self, progress: float) -> None:
        follow(self.teacher, self.encoder, self.options.momentum)
