"""Angular prototypical training, as a baseline of the CEL paper."""

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
    """Tell which of a batch's other crops is of the anchor's utterance, by cosine.

    The rows A-Prot of Mun et al. (2020), Table 1, and of Huh et al. (2020).
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the papers'; 180 frames, 25 ms each every 10 ms, span 1.815 s."""

        seconds: Memory[float] = 1.815

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.affine = Affine()

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        scale = self.affine.scale
        loss = angular_prototypical(query, target, scale, self.affine.bias, related)
        return Step(loss, {"scale": scale.detach()}, swap)
