"""SwAV for speakers."""

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
from idemvox.frameworks.parts.heads import Prototypes
from idemvox.frameworks.parts.memory import NegativeQueue
from idemvox.losses.prototypes import sinkhorn, swapped_prediction
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SwAV"]


@FRAMEWORKS.register("swav")
class SwAV(Projected):
    """Each crop of an utterance predicts to which prototypes the other was assigned.

    Caron et al. (2020), with the settings for speakers of the SSPS authors' code. The assignment gives each
    prototype an equal share of the batch and, from an epoch on, of the projections of earlier batches too.
    There are no negatives.

    With SSPS the positive view's projection is replaced, in assignment and prediction.
    """

    tiny: ClassVar[Mapping[str, Any]] = {
        **Projected.tiny,
        "prototypes": 6,
        "queue": 10,
        "queue_from": 1,
        "frozen_epochs": 1,
    }

    against_collapse = (
        "a larger framework.epsilon, which spreads utterances "
        "over the prototypes, or more framework.iterations"
    )

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code for ECAPA-TDNN.

        Attributes:
            temperature: temperature of the predictions.
            prototypes: number of prototypes.
            epsilon: of Sinkhorn's algorithm; the larger, the more even the assignment of each crop.
            iterations: of Sinkhorn's algorithm.
            queue: number of earlier projections, of each view, to assign with a batch; 0 for none.
            queue_from: first epoch with them, from 0.
            frozen_epochs: first epochs, in which the prototypes learn nothing.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        temperature: float = 0.1
        prototypes: Memory[int] = 6000
        epsilon: float = 0.05
        iterations: int = 3
        queue: Memory[int] = 3840
        queue_from: int = 15
        frozen_epochs: int = 1
        hidden: int = 2048
        outputs: Memory[int] = 512
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if min(self.temperature, self.epsilon) <= 0 or self.prototypes < 2 or self.queue < 0:
                raise RecipeError("swav needs temperature > 0, epsilon > 0, prototypes >= 2 and queue >= 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        self.prototypes = Prototypes(o.outputs, o.prototypes)
        self.queue = NegativeQueue(o.queue, 2 * o.outputs) if o.queue else None
        self._epoch = 0

    def start_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def project(self, representation: Tensor) -> Tensor:
        return F.normalize(super().project(representation).float(), dim=1)

    @torch.no_grad()
    def codes(self, scores: Tensor, view: int) -> Tensor:
        """Assign this rank's crops of a view to prototypes.

        Args:
            scores: (B, K) cosines of the crops with the prototypes.
            view: 0 or 1.

        Returns:
            (B, K), rows of sum 1.
        """
        o, everyone, counted = self.options, gather(scores.detach()), None  # (W B, K)
        count = len(everyone)
        if self.queue is not None and self._epoch >= o.queue_from:
            earlier = self.prototypes(self.queue.vectors.chunk(2, 1)[view])
            everyone = torch.cat([everyone, earlier])
            counted = F.pad(self.queue.ids >= 0, (count, 0), value=True)
        return own(sinkhorn(everyone, o.epsilon, o.iterations, counted)[:count])

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target = (self.project(self.encoder(batch.views[n][:, 0])) for n in ("anchor", "positive"))
        swap = positives(batch.ids, target)
        replaced = F.normalize(own(swap.targets), dim=1)  # again of length 1, as SSPS's centroids are not
        first, second = self.prototypes(query), self.prototypes(replaced)  # (B, K)
        t = self.options.temperature
        loss = (
            swapped_prediction(first, self.codes(second, 1), t)
            + swapped_prediction(second, self.codes(first, 0), t)
        ) / 2
        if self.training and self.queue is not None:
            self.queue.push(gather(batch.ids), gather(torch.cat([query, target], 1).detach()))
        return Step(loss, swap=swap)

    def after_backward(self, epoch: int) -> None:
        if epoch < self.options.frozen_epochs:
            self.prototypes.weight.grad = None
