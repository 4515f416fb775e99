"""GCL: one contrastive loss for training with all, some or no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.frameworks.base import Paired, require_classes
from idemvox.losses.affinity import affinities, generalised_contrastive
from idemvox.ranks import gather
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["GCL", "SupervisedGCL"]


@FRAMEWORKS.register("gcl")
class GCL(Paired):
    """Pull together the pairs that an affinity matrix selects: here the two views of an utterance.

    The idea is from Inoue & Goto (2020): one loss for metric learning with labels and contrastive learning
    without, where affinities select the positive pairs. The formulas of that paper were not available to us,
    so the form is our reconstruction. It is a softmax over all other embeddings of both views, with the
    affinities of each row as weights that sum to 1; without labels it equals SimCLR's loss. The temperature
    is 1 / w for the initial w of the CEL paper's losses.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the loss.

        Attributes:
            temperature: temperature of the softmax.
            seconds: length of a crop, the CEL paper's; 1.815 s are 180 frames of 25 ms, one every 10 ms.
        """

        temperature: float = 0.1
        seconds: Memory[float] = 1.815

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        classes = None if batch.classes is None else gather(batch.classes)
        loss = generalised_contrastive(
            torch.cat([query, target]),
            affinities(gather(batch.ids), classes),
            self.options.temperature,
            None if related is None else related.repeat(2, 2),
        )
        return Step(loss, swap=swap)


@FRAMEWORKS.register("supervised_gcl")
class SupervisedGCL(GCL):
    """GCL with labels: utterances of the same class are positive pairs too. Some may have no class.

    With ``positives: supervised`` the positive view is cut from another utterance of the class. Without it,
    two utterances of a class meet in a batch only by chance.
    """

    supervised = True
    partly = True

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        require_classes("supervised_gcl", classes, instead="gcl")
