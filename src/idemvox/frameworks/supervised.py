"""The supervised baseline: classification, also of labels that are not all right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Framework, require_classes
from idemvox.frameworks.parts.losses import EpochLosses, with_own
from idemvox.losses.gate import corrected_mean, kept_mean
from idemvox.losses.margin import aam_softmax, class_probability
from idemvox.modules import evaluating
from idemvox.ranks import gather
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SupervisedAAM"]


@FRAMEWORKS.register("supervised_aam")
class SupervisedAAM(Framework):
    """Classify the training speakers with AAM-softmax: the supervised row in Table 1 of the SSPS paper.

    The model is scored with the representation; the class vectors are discarded.

    With pseudo-speakers, some labels are wrong. A **loss gate** leaves out utterances whose loss is high. LGL
    (Tao et al., 2022) has a fixed threshold. DLG-LC (Han et al., 2024) fits two Gaussians to the log of all
    losses of the previous epoch, and its gate is where their weighted densities are equal; if there is no
    such point, or there are two, the gate stays as it was. With **label correction** an utterance outside the
    gate is trained with the class that its clean view is predicted to be, if that is confident.

    The public code of DLG-LC is followed, except that the prediction is a softmax of cosines, in eval mode.
    LGL closes its gate when the EER of the test list stops falling; here it is a number of epochs.
    """

    supervised = True
    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the loss; the defaults are the paper's, without a gate.

        Attributes:
            scale: scale of the cosines.
            margin: angular margin in radians.
            seconds: length of a crop.
            gate: ``none``; ``fixed`` (LGL); or ``mixture`` (DLG-LC).
            threshold: highest loss that a fixed gate lets through.
            gate_after: epochs before the gate.
            correct_after: epochs before label correction; ``None``: no correction.
            temperature: of the softmax over the cosines of a clean view.
            confidence: lowest probability of a prediction that replaces a label.
        """

        scale: float = 30.0
        margin: float = 0.2
        seconds: Memory[float] = 2.0
        gate: Literal["none", "fixed", "mixture"] = "none"
        threshold: float = 1.0
        gate_after: int = 4
        correct_after: int | None = None
        temperature: float = 0.1
        confidence: float = 0.5

        def __post_init__(self) -> None:
            if self.correct_after is not None and self.gate == "none":
                raise RecipeError(
                    "framework.correct_after corrects the labels that a gate leaves out: set framework.gate "
                    "to fixed or mixture"
                )
            if self.gate == "mixture" and self.gate_after < 1:
                raise RecipeError(
                    "a mixture needs the losses of an epoch: set framework.gate_after to 1 or more"
                )

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        require_classes("supervised_aam", classes)
        self.classes = nn.Parameter(torch.empty(classes, encoder.dim))
        nn.init.xavier_normal_(self.classes)
        self.losses: EpochLosses | None = None
        self.limit = math.inf
        """The highest loss that the gate lets through in this epoch."""
        self.corrects = False
        """Whether labels are corrected in this epoch."""

    def expect(self, utterances: int) -> None:
        if self.options.gate == "mixture":
            self.losses = EpochLosses(utterances)

    def begin_as(self, state: Mapping[str, Tensor]) -> None:
        super().begin_as(with_own(state, self, "losses."))

    def views(self) -> Views:
        views = {"anchor": Crop(1, self.options.seconds)}
        if self.options.correct_after is not None:
            views["clean"] = Crop(1, self.options.seconds, augment=False, cut_as="anchor")
        return views

    def start_epoch(self, epoch: int) -> None:
        o = self.options
        self.limit = math.inf
        if self.losses is not None:
            self.losses.fit(epoch)
        if epoch >= o.gate_after and o.gate != "none":
            self.limit = o.threshold if self.losses is None else float(self.losses.limit)
        self.corrects = o.correct_after is not None and epoch >= o.correct_after and self.limit < math.inf

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        assert batch.classes is not None
        embedding = self.encoder(batch.views["anchor"][:, 0])  # (B, D)
        if o.gate == "none":
            return Step(aam_softmax(embedding, self.classes, batch.classes, o.scale, o.margin))
        losses = gather(self.each(embedding, batch.classes))  # (W B,)
        if self.losses is not None and self.training:
            self.losses.observe(gather(batch.ids), losses)
        keep = ~(losses.detach() > self.limit)  # one that is not a number is kept, so that the run notices
        metrics = {"kept": keep.float().mean()}
        if not self.corrects:
            return Step(kept_mean(losses, keep), metrics)
        sure, label = self.predict(batch)
        metrics["corrected"] = (sure & ~keep).float().mean()
        predicted = gather(self.each(embedding, label))
        return Step(corrected_mean(losses, keep, predicted, sure), metrics)

    def each(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each row (B,)."""
        o = self.options
        return aam_softmax(embedding, self.classes, labels, o.scale, o.margin, reduction="none")

    def predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return (W B,) whether the predictions of all ranks are confident, and this rank's (B,)."""
        with evaluating(self.encoder):
            clean = self.encoder(batch.views["clean"][:, 0])
        probability, label = class_probability(clean, self.classes, self.options.temperature).max(1)
        return gather(probability.detach()) > self.options.confidence, label
