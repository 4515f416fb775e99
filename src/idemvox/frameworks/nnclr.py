"""NNCLR for speakers."""

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
from idemvox.frameworks.base import Projected
from idemvox.frameworks.parts.memory import NegativeQueue
from idemvox.frameworks.parts.projector import Projector
from idemvox.losses.pairwise import info_nce
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["NNCLR"]


@FRAMEWORKS.register("nnclr")
class NNCLR(Projected):
    """Each crop of an utterance predicts the nearest neighbour of the other, among earlier projections.

    Dwibedi et al. (2021), eq. 2 and 3, in both directions; no result for speakers is known to us. Unlike with
    the sampler ``nearest_neighbour``, both crops have a neighbour, and a predictor learns to find it.
    Neighbours are of other utterances, since those of a small corpus are in the queue several times over. The
    paper compares images and knows none. An utterance in the batch that is an anchor's neighbour is no
    negative of it.

    With SSPS the positive view's neighbour is that of the pseudo-positive.
    """

    tiny: ClassVar[Mapping[str, Any]] = {**Projected.tiny, "predictor": 16, "queue": 20}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the paper's, for images.

        Attributes:
            temperature: temperature of the softmax.
            queue: number of earlier projections.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            predictor: width of the predictor's hidden layer.
            seconds: length of a crop.
        """

        temperature: float = 0.1
        queue: Memory[int] = 65_536
        hidden: int = 2048
        outputs: Memory[int] = 256
        predictor: int = 4096
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.queue < 1:
                raise RecipeError("nnclr needs temperature > 0 and queue >= 1")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        self.predictor = Projector(o.outputs, o.predictor, o.outputs)
        self.queue = NegativeQueue(o.queue, o.outputs)

    @torch.no_grad()
    def neighbours(self, ids: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Find the most similar earlier projections of other utterances.

        Args:
            ids: (B,) utterances.
            x: (B, outputs) of any norm.

        Returns:
            (B, outputs) projections, those in ``x`` where there is no other, and (B,) whose they are, -1 for
            those.
        """
        with torch.autocast(x.device.type, enabled=False):
            cosine = x.float() @ F.normalize(self.queue.vectors, dim=1).T  # (B, Q)
            passed_over = (self.queue.ids < 0) | (ids[:, None] == self.queue.ids)
            best, place = cosine.masked_fill_(passed_over, float("-inf")).max(1)
        found = best > float("-inf")
        near = torch.where(found[:, None], self.queue.vectors[place], x.float())
        return near, torch.where(found, self.queue.ids[place], -1)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target = (self.project(self.encoder(batch.views[n][:, 0])) for n in ("anchor", "positive"))
        swap = positives(batch.ids, target)
        ids = gather(batch.ids)
        related = swap.related(ids)
        losses = []
        for sought, other in ((query, target), (own(swap.targets), query)):
            near, whose = self.neighbours(batch.ids, sought.detach())
            leave_out = gather(whose)[:, None] == ids
            if related is not None:
                leave_out |= related
            losses.append(
                info_nce(gather(near), gather(self.predictor(other)), self.options.temperature, leave_out)
            )
        if self.training:
            self.queue.push(ids, gather(target.detach()))
        return Step(torch.stack(losses).mean(), swap=swap)
