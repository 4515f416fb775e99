"""SimCLR for speakers, as in the SSPS paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.frameworks.base import Paired
from idemvox.losses.pairwise import info_nce, nt_xent
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SimCLR"]


@FRAMEWORKS.register("simclr")
class SimCLR(Paired):
    """Pull two augmented crops of an utterance together and push other utterances away.

    As in Lepage & Dehak (2025), section 2.1, without a projector, since that hurts verification. The paper
    prints the one-sided loss (eq. 1, B - 1 negatives), but its public code trains with the symmetric one
    (2B - 2 negatives). The default is the code's, since the published numbers come from it.

    SSPS replaces the positive view only. In the symmetric loss a pseudo-positive is also an anchor and a
    negative, without a gradient, as in the public code.
    """

    disjoint = False

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the loss; the defaults are the paper's, except ``symmetric``.

        Attributes:
            temperature: temperature of the softmax.
            symmetric: whether both views are anchors.
            margin: margin by which each positive is made harder, as in SNT-Xent-AM (Lepage & Dehak, 2024).
            angular: whether the margin is an angle in radians, as in SNT-Xent-AAM.
            seconds: length of a crop.
        """

        temperature: float = 0.03
        symmetric: bool = True
        margin: float = 0.0
        angular: bool = False
        seconds: Memory[float] = 2.0

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.loss = nt_xent if self.options.symmetric else info_nce

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        o = self.options
        loss = self.loss(query, target, o.temperature, related, margin=o.margin, angular=o.angular)
        return Step(loss, swap=swap)
