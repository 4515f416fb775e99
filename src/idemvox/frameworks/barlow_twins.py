"""Barlow Twins for speakers."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.batch import Batch, Sampler, Step
from idemvox.frameworks.base import Projected
from idemvox.losses.redundancy import barlow_twins
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["BarlowTwins"]


@FRAMEWORKS.register("barlow_twins")
class BarlowTwins(Projected):
    """Make each dimension agree between two crops of an utterance, and different dimensions independent.

    Zbontar et al. (2021), with the projector and weights of the SSPS authors' code; there are no negatives.

    With SSPS the positive view's projection is replaced.
    """

    against_collapse = "a larger training.batch, over which correlations are measured"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code.

        Attributes:
            weight: lambda, of the correlations of different dimensions.
            scale: factor of the whole loss; with Adam it hardly matters.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        weight: float = 0.005
        scale: float = 0.025
        hidden: int = 2048
        outputs: Memory[int] = 512
        seconds: Memory[float] = 2.0

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, _, swap = self.embed(batch, positives)
        return Step(self.options.scale * barlow_twins(query, target, self.options.weight), swap=swap)
