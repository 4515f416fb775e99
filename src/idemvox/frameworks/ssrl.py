"""Self-supervised reflective learning: a teacher relabels while the student learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Crop, Views
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Framework, require_classes
from idemvox.frameworks.parts.losses import EpochLosses, with_own
from idemvox.frameworks.parts.teacher import cosine_momentum, follow, teacher_of
from idemvox.frameworks.parts.votes import LabelQueue
from idemvox.losses.gate import kept_mean, low_share
from idemvox.losses.margin import aam_softmax, class_probability
from idemvox.ranks import gather
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SSRL"]


@FRAMEWORKS.register("ssrl")
class SSRL(Framework):
    """One round of training in which a teacher corrects the pseudo-speakers (Cai et al., 2024).

    It starts from pseudo-speakers of a clustering. The teacher, a moving average of the student and its class
    vectors, hears a clean view and gives each utterance the class that it finds most similar: an online
    clustering. The last labels of an utterance are kept in a queue, and the student learns what most of them
    say, from an augmented view. Two Gaussians of the log of the losses (see
    :class:`~idemvox.frameworks.supervised.SupervisedAAM`) tell how reliable each label is, which weights its
    loss.

    The paper's parts are these; its equations and settings were not available. How the queue is read, the
    weights, and all numbers are this project's choice.
    """

    supervised = True
    tiny: ClassVar[Mapping[str, Any]] = {"seconds": 0.2, "given_epochs": 1}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings, which the paper does not fix.

        Attributes:
            scale: scale of the cosines.
            margin: angular margin in radians.
            seconds: length of a crop.
            given_epochs: epochs that learn the given labels, while the queue fills.
            history: labels of an utterance that vote.
            momentum: momentum of the teacher at the start; it rises to 1.
            weighted: whether unreliable labels count less.
        """

        scale: float = 30.0
        margin: float = 0.2
        seconds: Memory[float] = 2.0
        given_epochs: int = 5
        history: int = 5
        momentum: float = 0.996
        weighted: bool = True

        def __post_init__(self) -> None:
            if self.history < 1 or self.given_epochs < 1:
                raise RecipeError("framework.history and framework.given_epochs are 1 or more")

    queue: LabelQueue
    losses: EpochLosses

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        require_classes("ssrl", classes)
        self.classes = nn.Parameter(torch.empty(classes, encoder.dim))
        nn.init.xavier_normal_(self.classes)
        self.teacher = teacher_of(encoder)
        self.teacher_classes = nn.Parameter(self.classes.detach().clone(), requires_grad=False)
        self.relabels = False
        """Whether the teacher's labels are learnt in this epoch."""

    def expect(self, utterances: int) -> None:
        self.queue = LabelQueue(utterances, self.options.history)
        self.losses = EpochLosses(utterances)

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        super().begin_with(weights)
        self.teacher.load_state_dict(weights)

    def begin_as(self, state: Mapping[str, Tensor]) -> None:
        super().begin_as(with_own(with_own(state, self, "losses."), self, "queue."))

    def views(self) -> Views:
        seconds = self.options.seconds
        return {"anchor": Crop(1, seconds), "clean": Crop(1, seconds, augment=False)}

    def start_epoch(self, epoch: int) -> None:
        self.losses.fit(epoch)
        self.relabels = epoch >= self.options.given_epochs

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        assert batch.classes is not None
        ids, given = gather(batch.ids), gather(batch.classes)  # (W B,)
        with torch.no_grad():
            clean = self.teacher(batch.views["clean"][:, 0])
            found = gather(class_probability(clean, self.teacher_classes).argmax(1))
        if self.training:
            self.queue.push(ids, found)
        voted = self.queue.vote(ids)
        labels = torch.where(voted < 0, given, voted) if self.relabels else given
        embedding = gather(self.encoder(batch.views["anchor"][:, 0]))  # (W B, D)
        losses = aam_softmax(embedding, self.classes, labels, o.scale, o.margin, reduction="none")
        if self.training:
            self.losses.observe(ids, losses)
        mixture = self.losses.fitted() if o.weighted and self.relabels else None
        share = torch.ones_like(losses) if mixture is None else low_share(losses, mixture)
        metrics = {"changed": (labels != given).float().mean(), "kept": share.mean()}
        return Step(kept_mean(losses, share), metrics)

    def after_step(self, progress: float) -> None:
        momentum = cosine_momentum(progress, self.options.momentum)
        follow(self.teacher, self.encoder, momentum)
        with torch.no_grad():
            self.teacher_classes.lerp_(self.classes, 1 - momentum)
