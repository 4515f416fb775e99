"""Fine-tuning with labels, as in the CEL paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.balance import Balance
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Framework, require_classes
from idemvox.frameworks.parts.heads import Affine
from idemvox.losses.ge2e import ge2e
from idemvox.losses.margin import aam_softmax, adacos, adacos_start, cosface
from idemvox.losses.prototypical import angular_contrastive, angular_prototypical
from idemvox.ranks import gather
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["FineTune"]

BETWEEN_UTTERANCES = ("a-prot", "a-cont", "ge2e")
"""Losses that compare the utterances of a batch; the others learn a vector for each class."""


@FRAMEWORKS.register("finetune")
class FineTune(Framework):
    """Train an encoder with labels, after self-supervised training or from scratch.

    As in Mun et al. (2020), Tables 3 and 4. ``start_from`` names the self-supervised run; without it training
    starts from random weights, as in some rows of the tables. A batch has ``utterances`` utterances of each
    of its classes. A-Prot and A-Cont match the first utterance of a class with the mean of the others, and
    GE2E matches each with the centroid of the others. CosFace, ArcFace and AdaCos classify. The model is
    scored with the representation; the heads are discarded.
    """

    supervised = True
    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of loss and batches; the defaults are the paper's, or its public code's.

        Attributes:
            loss: ``a-prot``, ``a-cont``, ``ge2e``, ``cosface``, ``arcface`` or ``adacos``.
            scale: scale of CosFace and ArcFace.
            margin: margin of CosFace and ArcFace.
            seconds: length of a crop; 3.015 s are 300 frames of 25 ms, one every 10 ms.
            utterances: utterances of a class in a batch.
            most_utterances: most utterances of a class in an epoch.
            frozen_epochs: number of epochs at the start in which the encoder is frozen, with its running
                statistics, and only the head learns.
        """

        loss: Literal["a-prot", "a-cont", "ge2e", "cosface", "arcface", "adacos"] = "a-prot"
        scale: float = 30.0
        margin: float = 0.2
        seconds: Memory[float] = 3.015
        utterances: int = 2
        most_utterances: int = 100
        frozen_epochs: int = 0

        def __post_init__(self) -> None:
            if self.loss in BETWEEN_UTTERANCES and self.utterances < 2:
                raise RecipeError(
                    f"finetune with {self.loss} compares utterances: set framework.utterances to at least 2"
                )

    scale: Tensor
    """The scale of AdaCos after the last step."""

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        loss = self.options.loss
        require_classes(f"finetune with {loss}", classes, 3 if loss == "adacos" else 2)
        if loss in BETWEEN_UTTERANCES:
            self.affine = Affine()
        else:
            self.classes = nn.Parameter(torch.empty(classes, encoder.dim))
            nn.init.xavier_normal_(self.classes)
        if loss == "adacos":
            self.register_buffer("scale", torch.tensor(adacos_start(classes)))

    def views(self) -> Views:
        return {"anchor": Crop(1, self.options.seconds)}

    def balance(self) -> Balance:
        return Balance(self.options.utterances, self.options.most_utterances)

    def start_epoch(self, epoch: int) -> None:
        learns = epoch >= self.options.frozen_epochs
        self.encoder.requires_grad_(learns).train(learns)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        assert batch.classes is not None
        embedding = self.encoder(batch.views["anchor"][:, 0])  # (B, D), class by class
        if o.loss in ("cosface", "arcface"):
            classify = cosface if o.loss == "cosface" else aam_softmax
            return Step(classify(embedding, self.classes, batch.classes, o.scale, o.margin))
        embedding = gather(embedding)
        if o.loss == "adacos":
            loss, scale = adacos(embedding, self.classes, gather(batch.classes), self.scale)
            if self.training:
                self.scale.copy_(scale)
            return Step(loss, {"scale": scale})
        grouped = embedding.unflatten(0, (-1, o.utterances))  # (P, M, D) of P classes
        scale, bias = self.affine.scale, self.affine.bias
        if o.loss == "ge2e":
            return Step(ge2e(grouped, scale, bias), {"scale": scale.detach()})
        match = angular_prototypical if o.loss == "a-prot" else angular_contrastive
        return Step(match(grouped[:, 0], grouped[:, 1:].mean(1), scale, bias), {"scale": scale.detach()})
