"""BYOL for speakers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Projected
from idemvox.frameworks.parts.projector import Projector
from idemvox.frameworks.parts.teacher import cosine_momentum, follow, teacher_of
from idemvox.losses.prediction import negative_cosine, spread
from idemvox.ranks import own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["BYOL"]


@FRAMEWORKS.register("byol")
class BYOL(Projected):
    """Each crop of an utterance predicts the output of a teacher, which follows the student, for the other.

    Grill et al. (2020), eq. 2: the squared distance of unit vectors, in both directions, without negatives.
    The student's encoder is evaluated and shipped. The metric ``spread``, of representations,
    falls towards 0 in a collapse.

    With SSPS the teacher's projection of the positive view is that of a pseudo-positive.
    """

    against_collapse = "framework.momentum nearer to 1, more training.warmup_epochs"

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: those of the SSPS authors' code, which are the paper's.

        Attributes:
            momentum: of the teacher at the beginning; by a cosine 1 at the end of the schedule.
            hidden: width of the hidden layers of projector and predictor.
            outputs: width of a projection.
            seconds: length of a crop.
        """

        momentum: float = 0.996
        hidden: int = 4096
        outputs: int = 256
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if not 0 <= self.momentum <= 1:
                raise RecipeError(f"byol momentum is from 0 to 1, not {self.momentum}")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.predictor = Projector(self.options.outputs, self.options.hidden, self.options.outputs)
        self.teacher = teacher_of(encoder)
        self.teacher_projector = teacher_of(self.projector)

    def build_projector(self) -> Projector:
        return Projector(self.encoder.dim, self.options.hidden, self.options.outputs)

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        super().begin_with(weights)
        self.teacher.load_state_dict(weights)

    @torch.no_grad()
    def taught(self, batch: Batch, view: str) -> Tensor:
        """Return the teacher's projections (B, outputs) of a view."""
        projections: Tensor = self.teacher_projector(self.teacher(batch.views[view][:, 0]))
        return projections

    def target(self, batch: Batch) -> Tensor:
        return self.taught(batch, "positive")

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        swap = positives(batch.ids, self.target(batch))
        query, other = (
            self.project(self.encoder(batch.views[name][:, 0])) for name in ("anchor", "positive")
        )
        found = negative_cosine(self.predictor(query), own(swap.targets))
        back = negative_cosine(self.predictor(other), self.taught(batch, "anchor"))
        return Step(4 + 2 * found + 2 * back, {"spread": spread(query)}, swap)

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(progress, self.options.momentum)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)
