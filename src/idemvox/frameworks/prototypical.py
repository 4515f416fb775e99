"""The prototypical network, a baseline of the CEL paper."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.batch import Batch, Sampler, Step
from idemvox.embedder import Scoring
from idemvox.frameworks.base import Paired
from idemvox.losses.prototypical import prototypical
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["Prototypical"]


@FRAMEWORKS.register("prototypical")
class Prototypical(Paired):
    """Find the second crop of the anchor's utterance among those of the batch, by squared Euclidean distance.

    This is Prot in Table 1 of Mun et al. (2020), and in Huh et al. (2020). Embeddings are not normalised, and
    they are scored by the same distance. SSPS still clusters representations by cosine.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """The papers' settings.

        Attributes:
            seconds: length of a crop; 1.815 s are 180 frames of 25 ms, one every 10 ms.
        """

        seconds: Memory[float] = 1.815

    @property
    def scoring(self) -> Scoring:
        return "euclidean"

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        return Step(prototypical(query, target, related), swap=swap)
