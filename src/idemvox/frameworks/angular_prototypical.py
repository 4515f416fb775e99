"""Angular prototypical training, as a baseline of the CEL paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.frameworks.base import Batch, Framework, Step, Swap
from idemvox.heads import Affine
from idemvox.losses.prototypical import angular_prototypical
from idemvox.registry import FRAMEWORKS

__all__ = ["AngularPrototypical"]


@FRAMEWORKS.register("angular_prototypical")
class AngularPrototypical(Framework):
    """Tell which of a batch's other crops is of the anchor's utterance, by cosine.

    The rows A-Prot of Mun et al. (2020), Table 1, and of Huh et al. (2020).
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the papers'; 180 frames, 25 ms each every 10 ms, span 1.815 s."""

        seconds: float = 1.815

    def __init__(self, encoder: Encoder, options: Any = None, speakers: int = 0) -> None:
        super().__init__(encoder, options, speakers)
        self.affine = Affine()

    def views(self) -> Views:
        crop = Crop(1, self.options.seconds, disjoint=True)
        return {"anchor": crop, "positive": crop}

    def target(self, batch: Batch) -> Tensor:
        target: Tensor = self.encoder(batch.views["positive"][:, 0])
        return target

    def forward(self, batch: Batch, positives: Swap) -> Step:
        query = self.encoder(batch.views["anchor"][:, 0])  # (B, D)
        target = positives(batch.ids, self.target(batch))  # (B, D)
        scale, bias = self.affine.scale, self.affine.bias
        loss = angular_prototypical(query, target, scale, bias, positives.related(batch.ids))
        return Step(loss, {"scale": scale.detach()})
