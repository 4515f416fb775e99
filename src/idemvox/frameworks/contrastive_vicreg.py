"""A contrastive loss with VICReg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.projector import Projector
from idemvox.losses.pairwise import info_nce
from idemvox.losses.redundancy import vicreg
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["ContrastiveVICReg"]

Where = Literal["representation", "projection"]


@FRAMEWORKS.register("contrastive_vicreg")
class ContrastiveVICReg(Paired):
    """Tell utterances apart by the one-sided contrastive loss, and regularise by VICReg.

    Lepage & Dehak (2022). Their code has four combinations: each loss on representations or on projections,
    with a weight of VICReg of 1 if they are on different ones and of 0.1 if on the same. Which of them gave
    the published number is not known; the default, both on representations, is a guess.

    A sampler works on representations: with SSPS the positive view's representation is replaced, and its
    projection is that of the replacement.
    """

    disjoint = False
    tiny: ClassVar[Mapping[str, Any]] = {
        "seconds": 0.2,
        "vicreg_on": "projection",
        "hidden": 16,
        "outputs": 8,
    }

    against_collapse = "a larger framework.weight or framework.variance, or a larger training.batch"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the authors' code.

        Attributes:
            temperature: temperature of the softmax.
            contrastive_on: what the contrastive loss compares.
            vicreg_on: what VICReg regularises.
            weight: of VICReg.
            invariance, variance, covariance: weights of VICReg's terms.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        temperature: float = 0.07
        contrastive_on: Where = "representation"
        vicreg_on: Where = "representation"
        weight: float = 0.1
        invariance: float = 1.0
        variance: float = 1.0
        covariance: float = 0.04
        hidden: int = 2048
        outputs: Memory[int] = 2048
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.weight < 0:
                raise RecipeError("contrastive_vicreg needs temperature > 0 and weight >= 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        if "projection" in (o.contrastive_on, o.vicreg_on):
            self.projector = Projector(encoder.dim, o.hidden, o.hidden, o.outputs)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        query = self.encoder(batch.views["anchor"][:, 0])  # (B, dim)
        swap = positives(batch.ids, self.target(batch))
        pairs = {"representation": (gather(query), swap.targets)}
        if "projection" in (o.contrastive_on, o.vicreg_on):
            pairs["projection"] = gather(self.projector(query)), gather(self.projector(own(swap.targets)))
        related = swap.related(gather(batch.ids))
        contrast = info_nce(*pairs[o.contrastive_on], o.temperature, related)
        terms = vicreg(*pairs[o.vicreg_on])
        regulariser = (
            o.invariance * terms.invariance + o.variance * terms.variance + o.covariance * terms.covariance
        )
        numbers = {"contrast": contrast, **terms._asdict()}
        return Step(
            contrast + o.weight * regulariser,
            {name: value.detach() for name, value in numbers.items()},
            swap,
        )
