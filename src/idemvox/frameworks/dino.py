"""DINO for speakers, as in the SSPS paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Framework
from idemvox.frameworks.parts.heads import DINOHead, Prototypes
from idemvox.frameworks.parts.teacher import cosine_momentum, follow, teacher_of
from idemvox.losses.distillation import entropy, self_distillation, sharpened
from idemvox.ranks import mean, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["DINO"]


@FRAMEWORKS.register("dino")
class DINO(Framework):
    """Train a student on short and long crops to predict a teacher's output for long crops.

    The teacher is a moving average of the student (Caron et al., 2021). For speakers, as in Lepage & Dehak
    (2025), section 2.2, there are two global crops, which both networks see, and four local crops, which only
    the student sees. The teacher's encoder is evaluated, clustered and stored in the model.

    With SSPS the teacher's outputs for both global crops are replaced by those of a pseudo-positive. The
    public code stores their logits, 2 x 65,536 numbers per utterance: 13.1 GB for a queue of 25,000
    (``store: logits``). The default stores the outputs of the bottleneck, 2 x 256 numbers per utterance:
    51 MB. The teacher's current last layer computes the logits from them, so the logits are newer too. As
    long as that layer does not change, both ways give the same result.

    The centre follows the teacher's logits after the replacement, as in the public code. If the sampler cuts
    views from a partner, the local crops come from the partner.
    """

    partnered = frozenset({"local"})
    tiny: ClassVar[Mapping[str, Any]] = {
        "global_seconds": 0.3,
        "local_seconds": 0.2,
        "hidden": 16,
        "bottleneck": 8,
        "outputs": 32,
    }

    against_collapse = (
        "framework.momentum nearer to 1, a lower framework.teacher_temperature, more training.warmup_epochs"
    )

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of teacher, heads and crops; the defaults are the paper's.

        Attributes:
            student_temperature: temperature of the student's softmax.
            teacher_temperature: temperature of the teacher's softmax.
            momentum: the teacher's momentum at the start; it rises to 1 at the end, by half a cosine.
            centre_momentum: momentum of the centre.
            hidden: width of the head's hidden layers.
            bottleneck: width of the head's output.
            outputs: number of prototypes.
            global_crops: crops per utterance that teacher and student see.
            global_seconds: length of such a crop.
            local_crops: crops per utterance that only the student sees.
            local_seconds: length of such a crop.
            frozen_epochs: number of epochs at the start in which the last layer is frozen.
            average: whether to average over the pairs of crops, as the public code does; eq. 2 of the paper
                sums.
            store: what SSPS stores of an utterance: outputs of the ``bottleneck``, or ``logits``.
        """

        student_temperature: float = 0.1
        teacher_temperature: float = 0.04
        momentum: float = 0.996
        centre_momentum: float = 0.9
        hidden: int = 2048
        bottleneck: int = 256
        outputs: Memory[int] = 65_536
        global_crops: int = 2
        global_seconds: Memory[float] = 4.0
        local_crops: Memory[int] = 4
        local_seconds: Memory[float] = 2.0
        frozen_epochs: int = 1
        average: bool = True
        store: Literal["bottleneck", "logits"] = "bottleneck"

        def __post_init__(self) -> None:
            if self.global_crops < 1 or self.local_crops < 0 or self.global_crops + self.local_crops < 2:
                raise RecipeError(
                    "dino needs framework.global_crops >= 1, framework.local_crops >= 0, and two crops in all"
                )
            if self.store not in ("bottleneck", "logits"):
                raise RecipeError(f"framework.store must be 'bottleneck' or 'logits', not {self.store!r}")

    centre: Tensor
    """(outputs,) a moving average of the teacher's logits."""

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        o = self.options
        self.head = DINOHead(encoder.dim, o.hidden, o.bottleneck)
        self.prototypes = Prototypes(o.bottleneck, o.outputs)
        self.teacher = teacher_of(encoder)
        self.teacher_head = teacher_of(self.head)
        self.teacher_prototypes = teacher_of(self.prototypes)
        self.register_buffer("centre", torch.zeros(o.outputs))

    def views(self) -> Views:
        o = self.options
        views = {"global": Crop(o.global_crops, o.global_seconds)}
        if o.local_crops:
            views["local"] = Crop(o.local_crops, o.local_seconds)
        return views

    @property
    def embedder(self) -> Encoder:
        return self.teacher

    @property
    def embedding_dim(self) -> int:
        o = self.options
        return int(o.global_crops * (o.bottleneck if o.store == "bottleneck" else o.outputs))

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        super().begin_with(weights)
        self.teacher.load_state_dict(weights)

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        crops = batch.views["global"]
        output = self.teacher_head(self.teacher(crops.flatten(0, 1)))  # (B G, bottleneck)
        if self.options.store == "logits":
            output = self.teacher_prototypes(output)
        flat: Tensor = output.view(len(crops), -1)
        return flat

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        swap = positives(batch.ids, self.target(batch))
        target = own(swap.targets).unflatten(1, (o.global_crops, -1))
        logits = target  # (B, G, outputs)
        if o.store == "bottleneck":  # normalise each crop, since a centroid's crops are not unit vectors
            logits = self.teacher_prototypes(F.normalize(target, dim=-1))
        probabilities = sharpened(logits, self.centre, o.teacher_temperature)
        seen = torch.cat(
            [
                self.encoder(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
                for crops in (batch.views[name] for name in self.views())
            ],
            dim=1,
        )  # (B, G + L, dim), global crops first
        student = self.prototypes(self.head(seen.flatten(0, 1))).unflatten(0, seen.shape[:2])
        loss = self_distillation(student, probabilities, o.student_temperature, o.average)
        if self.training:
            self.centre.lerp_(mean(logits.detach().float().mean((0, 1))), 1 - o.centre_momentum)
        return Step(loss, {"teacher_entropy": entropy(probabilities)}, swap)

    def after_backward(self, epoch: int) -> None:
        if epoch < self.options.frozen_epochs:
            self.prototypes.weight.grad = None

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(progress, self.options.momentum)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
        follow(self.teacher_prototypes, self.prototypes, momentum)
