"""The prototypical network, as a baseline of the CEL paper."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Scoring
from idemvox.frameworks.base import Paired
from idemvox.losses.prototypical import prototypical
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["Prototypical"]


@FRAMEWORKS.register("prototypical")
class Prototypical(Paired):
    """Tell which of a batch's other crops is of the anchor's utterance, by squared Euclidean distance.

    The rows Prot of Mun et al. (2020), Table 1, and of Huh et al. (2020).  Embeddings are never normalised,
    so they are scored by the same distance.  SSPS still clusters representations by cosine.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the papers'; 180 frames, 25 ms each every 10 ms, span 1.815 s."""

        seconds: Memory[float] = 1.815

    @property
    def scoring(self) -> Scoring:
        return "euclidean"

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        return Step(prototypical(query, target, related), swap=swap)
