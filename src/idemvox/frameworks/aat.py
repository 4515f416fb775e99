"""Augmentation adversarial training (Huh et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Crop, Views
from idemvox.embedder import Scoring
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.heads import Affine
from idemvox.losses.prototypical import angular_prototypical, prototypical
from idemvox.ranks import gather, mean_gradients
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["AAT", "Discriminator", "with_reversed_gradient"]


def with_reversed_gradient(x: Tensor) -> Tensor:
    """Return ``x`` itself, with a gradient of the opposite sign (Ganin & Lempitsky, 2015)."""
    return 2 * x.detach() - x


class Discriminator(nn.Module):
    """Predicts whether the two crops of a pair of embeddings had the same augmentation.

    Only :meth:`learn` changes its parameters, with an optimiser of its own; everywhere else they are frozen.
    It runs in fp32, even under autocast.

    Args:
        dim: width D of an embedding; for D = 512 the layers have widths 1024, 512 and 2, as in the public
            code.
        lr: learning rate of its Adam, without a schedule, as in the public code.
    """

    def __init__(self, dim: int, lr: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2 * dim),
            nn.ReLU(),
            nn.Linear(2 * dim, dim),
            nn.BatchNorm1d(dim),
            nn.ReLU(),
            nn.Linear(dim, 2),
        )
        self.optimizer = Adam(self.layers.parameters(), lr=lr, fused=True)
        self.requires_grad_(False)

    def forward(self, pairs: Tensor, alike: Tensor) -> tuple[Tensor, Tensor]:
        """Return two scalars, the cross entropy and the accuracy.

        Args:
            pairs: (N, 2D) the two embeddings of each pair, side by side.
            alike: (N,) int64, 1 where both crops had the same augmentation, else 0.
        """
        with torch.autocast(pairs.device.type, enabled=False):
            logits = self.layers(pairs.float())  # (N, 2)
            return F.cross_entropy(logits, alike), (logits.argmax(1) == alike).float().mean()

    def learn(self, pairs: Tensor, alike: Tensor) -> None:
        """Take one step of its optimiser, skipped if a gradient is NaN or infinite; pairs get no gradient."""
        self.requires_grad_(True)
        with torch.enable_grad():
            self(pairs.detach(), alike)[0].backward()
        mean_gradients(self.layers.parameters())
        norms = torch._foreach_norm([p.grad for p in self.layers.parameters() if p.grad is not None])
        broken = ~torch.stack(norms).isfinite().all()
        self.optimizer.found_inf = broken.to(torch.float32)  # type: ignore[attr-defined]
        self.optimizer.step()  # fused: skips broken steps on the device, as under a GradScaler
        self.optimizer.zero_grad(set_to_none=True)
        self.requires_grad_(False)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's state, for checkpoints."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the optimiser's state."""
        self.optimizer.load_state_dict(state)


@FRAMEWORKS.register("aat")
class AAT(Paired):
    """Match two crops of an utterance while a discriminator must not recognise their augmentation.

    An utterance has two crops, x1 and x2, that do not overlap, and three views: A(x1), A(x2) and B(x2), with
    augmentations A and B. The loss matches A(x1) with B(x2) among all utterances of the batch. In each step
    the discriminator first learns to tell pairs (A(x1), A(x2)) from pairs (A(x1), B(x2)). The encoder then
    learns, through a gradient reversal, to make the two kinds indistinguishable. The logged accuracy is
    measured before the discriminator learns from the batch; 0.5 is chance.

    SSPS replaces B(x2) in the matching loss only. The discriminator still sees the utterance's crop.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the two losses; the defaults are the paper's.

        Attributes:
            similarity: loss of the matching: ``prot``, whose embeddings are scored by Euclidean distance, or
                ``a-prot``.
            alpha: weight of the adversarial loss.
            steps: steps of the discriminator for each step of the encoder.
            discriminator_lr: learning rate of the discriminator.
            seconds: length of a crop; 1.815 s are 180 frames of 25 ms, one every 10 ms.
        """

        similarity: Literal["prot", "a-prot"] = "a-prot"
        alpha: float = 3.0
        steps: int = 1
        discriminator_lr: float = 1e-3
        seconds: Memory[float] = 1.815

        def __post_init__(self) -> None:
            if self.similarity not in ("prot", "a-prot"):
                raise RecipeError(f"framework.similarity must be 'prot' or 'a-prot', not {self.similarity!r}")
            if self.alpha < 0 or self.steps < 0 or self.discriminator_lr <= 0:
                raise RecipeError(
                    "aat needs framework.alpha >= 0, framework.steps >= 0 and framework.discriminator_lr > 0"
                )

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        if self.options.similarity == "a-prot":
            self.affine = Affine()
        self.discriminator = Discriminator(encoder.dim, self.options.discriminator_lr)

    @property
    def scoring(self) -> Scoring:
        return "euclidean" if self.options.similarity == "prot" else "cosine"

    def views(self) -> Views:
        shared = Crop(1, self.options.seconds, cut_as="positive", augment_as="anchor")
        return {**super().views(), "shared": shared}

    def match(self, query: Tensor, target: Tensor, related: Tensor | None) -> Tensor:
        """Return the loss that matches A(x1) with B(x2), both (B, D)."""
        if self.options.similarity == "prot":
            return prototypical(query, target, related)
        return angular_prototypical(query, target, self.affine.scale, self.affine.bias, related)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        query, shared = (self.encoder(batch.views[name][:, 0]) for name in ("anchor", "shared"))  # (B, D)
        positive = self.target(batch)
        swap = positives(batch.ids, positive)
        match = self.match(gather(query), swap.targets, swap.related(gather(batch.ids)))

        pairs = torch.cat([torch.cat([query, other], 1) for other in (shared, positive)])  # (2B, 2D)
        alike = (torch.arange(len(pairs), device=pairs.device) < len(query)).long()
        _, accuracy = self.discriminator(pairs.detach(), alike)
        for _ in range(o.steps if self.training else 0):
            self.discriminator.learn(pairs, alike)
        adversarial, _ = self.discriminator(with_reversed_gradient(pairs), alike)
        numbers = {"match": match, "discriminator": adversarial}
        return Step(
            match + o.alpha * adversarial,
            {name: value.detach() for name, value in numbers.items()} | {"discriminator_accuracy": accuracy},
            swap,
        )
