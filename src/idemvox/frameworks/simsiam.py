"""SimSiam for speakers, and SSReg, which regularises it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Projected
from idemvox.frameworks.parts.projector import Projector
from idemvox.losses.prediction import negative_cosine, spread
from idemvox.ranks import own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SimSiam"]


@FRAMEWORKS.register("simsiam")
class SimSiam(Projected):
    """Each crop of an utterance predicts the projection of the other, which gets no gradient.

    Chen & He (2021), with the projector and predictor of the SSPS authors' code. Without negatives only the
    predictor prevents a collapse: that code reports an EER of 28.9 %, which depends on the seed. The metric
    ``spread``, of representations, falls towards 0 in a collapse, and the run stops after
    ``training.collapse_steps`` collapsed steps. The predictor's learning rate follows the schedule of all
    other parameters here; the paper's is constant.

    SSReg (Sang et al., 2022) adds a regulariser (``regularisation``), which makes the representations of
    positive pairs similar. Its formula is not known to us, so this one is a reconstruction: SimSiam's loss
    without a predictor, on the encoder's representations. By itself that term is least when all
    representations are the same: with a weight of 50 a small encoder collapsed within 130 steps.

    With SSPS the positive view's projection, as a target, is that of a pseudo-positive. The regulariser
    compares the utterance's own crops.
    """

    against_collapse = "framework.regularisation above 0 (SSReg), though a very large one collapses too"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code.

        Attributes:
            regularisation: weight of SSReg's term; 0 is SimSiam.
            hidden: width of the projector's two hidden layers.
            outputs: width of a projection.
            predictor: width of the predictor's hidden layer.
            seconds: length of a crop.
        """

        regularisation: float = 0.0
        hidden: int = 2048
        outputs: Memory[int] = 2048
        predictor: int = 512
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.regularisation < 0:
                raise RecipeError(f"simsiam regularisation is 0 or more, not {self.regularisation}")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        self.predictor = Projector(o.outputs, o.predictor, o.outputs)

    def build_projector(self) -> Projector:
        o = self.options
        return Projector(self.encoder.dim, o.hidden, o.hidden, o.outputs, normalised=True)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        first, second = (self.encoder(batch.views[name][:, 0]) for name in ("anchor", "positive"))  # (B, dim)
        query, target = self.project(first), self.project(second)  # (B, outputs)
        swap = positives(batch.ids, target.detach())
        loss = (
            negative_cosine(self.predictor(query), own(swap.targets))
            + negative_cosine(self.predictor(target), query)
        ) / 2
        numbers = {"spread": spread(first)}
        if self.options.regularisation:
            likeness = (negative_cosine(first, second) + negative_cosine(second, first)) / 2
            loss = loss + self.options.regularisation * likeness
            numbers["likeness"] = -likeness.detach()
        return Step(loss, numbers, swap)
