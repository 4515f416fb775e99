"""Angular prototypical training, a baseline of the CEL paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.heads import Affine
from idemvox.losses.prototypical import angular_prototypical
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["AngularPrototypical"]


@FRAMEWORKS.register("angular_prototypical")
class AngularPrototypical(Paired):
    """Find the second crop of the anchor's utterance among those of the batch, by cosine.

    This is A-Prot in Table 1 of Mun et al. (2020), and in Huh et al. (2020).
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """The papers' settings.

        Attributes:
            seconds: length of a crop; 1.815 s are 180 frames of 25 ms, one every 10 ms.
        """

        seconds: Memory[float] = 1.815

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.affine = Affine()

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        scale = self.affine.scale
        loss = angular_prototypical(query, target, scale, self.affine.bias, related)
        return Step(loss, {"scale": scale.detach()}, swap)
