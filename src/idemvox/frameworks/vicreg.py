"""VICReg for speakers."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.batch import Batch, Sampler, Step
from idemvox.frameworks.base import Projected
from idemvox.losses.redundancy import vicreg
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["VICReg"]


@FRAMEWORKS.register("vicreg")
class VICReg(Projected):
    """Make two crops of an utterance similar, while each dimension varies and no two vary together.

    Bardes et al. (2022), for speakers as in the SSPS authors' code; there are no negatives.

    With SSPS the positive view's projection is replaced, and its variance and covariance are those of the
    replacement, which has no gradient.
    """

    against_collapse = (
        "a larger framework.variance, which keeps dimensions apart from 0, or a larger training.batch"
    )

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code for ECAPA-TDNN.

        Attributes:
            invariance, variance, covariance: weights of the terms.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        invariance: float = 1.0
        variance: float = 1.0
        covariance: float = 0.1
        hidden: int = 2048
        outputs: Memory[int] = 512
        seconds: Memory[float] = 2.0

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        query, target, _, swap = self.embed(batch, positives)
        terms = vicreg(query, target)
        loss = o.invariance * terms.invariance + o.variance * terms.variance + o.covariance * terms.covariance
        return Step(loss, {name: value.detach() for name, value in terms._asdict().items()}, swap)
