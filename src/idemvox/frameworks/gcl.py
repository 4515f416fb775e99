"""GCL: one contrastive loss with labels, without, or with a few."""

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
    """Pull together what an affinity matrix says belongs together: here the two views of an utterance.

    After Inoue & Goto (2020).  Theirs is the idea: one loss for metric learning with labels and contrastive
    learning without, in which affinities say which pairs, labelled or not, belong together.  Reconstructed is
    the form, as their formulas were not at hand: a softmax over all other embeddings of both views, the
    affinities of each as weights of sum 1, so that without labels it is SimCLR's loss; and the temperature,
    1 / w of the CEL paper's losses when they begin.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """``seconds``: 180 frames, 25 ms each every 10 ms, as the CEL paper's systems have."""

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
    """GCL that reads classes, where an utterance has one: those of one class belong together.

    With ``positives: supervised`` the positive view of such an utterance is of another one of its class,
    so that not chance alone brings two into a batch.
    """

    supervised = True
    partly = True

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        require_classes("supervised_gcl", classes, instead="gcl")
