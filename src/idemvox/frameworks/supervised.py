"""The supervised baseline: classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.frameworks.base import Framework, require_classes
from idemvox.losses.margin import aam_softmax
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SupervisedAAM"]


@FRAMEWORKS.register("supervised_aam")
class SupervisedAAM(Framework):
    """Classify the training speakers with AAM-softmax: the supervised row in Table 1 of the SSPS paper.

    The model is scored with the representation; the class vectors are discarded.
    """

    supervised = True
    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the loss; the defaults are the paper's.

        Attributes:
            scale: scale of the cosines.
            margin: angular margin in radians.
            seconds: length of a crop.
        """

        scale: float = 30.0
        margin: float = 0.2
        seconds: Memory[float] = 2.0

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        require_classes("supervised_aam", classes)
        self.classes = nn.Parameter(torch.empty(classes, encoder.dim))
        nn.init.xavier_normal_(self.classes)

    def views(self) -> Views:
        return {"anchor": Crop(1, self.options.seconds)}

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        assert batch.classes is not None
        embedding = self.encoder(batch.views["anchor"][:, 0])  # (B, D)
        return Step(
            aam_softmax(embedding, self.classes, batch.classes, self.options.scale, self.options.margin)
        )
