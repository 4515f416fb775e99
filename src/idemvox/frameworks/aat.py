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
from idemvox.encoders.base import Encoder, Scoring
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
    """Tells of a pair of embeddings whether both crops were augmented alike.

    It learns by its own optimiser in :meth:`learn` alone, and is frozen for everybody else.  In fp32 whatever
    the autocast.

    Args:
        dim: width D of an embedding; the public code's layers are 1024, 512 and 2 wide for 512.
        lr: of its Adam; no schedule moves it, in the public code neither.
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
        """Return the cross entropy of what it says of pairs (N, 2D), and how often it is right (N,)."""
        with torch.autocast(pairs.device.type, enabled=False):
            logits = self.layers(pairs.float())  # (N, 2)
            return F.cross_entropy(logits, alike), (logits.argmax(1) == alike).float().mean()

    def learn(self, pairs: Tensor, alike: Tensor) -> None:
        """Take one step; the pairs get no gradient."""
        self.requires_grad_(True)
        with torch.enable_grad():
            self(pairs.detach(), alike)[0].backward()
        mean_gradients(self.layers.parameters())
        norms = torch._foreach_norm([p.grad for p in self.layers.parameters() if p.grad is not None])
        broken = ~torch.stack(norms).isfinite().all()
        self.optimizer.found_inf = broken.to(torch.float32)  # type: ignore[attr-defined]
        self.optimizer.step()  # the fused one does nothing then, as under a GradScaler; the host asks nobody
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
    """Match crops of an utterance so that a discriminator cannot tell which were augmented alike.

    Of an utterance's two crops x1 and x2 that do not overlap there are three views: A(x1), A(x2) and B(x2),
    with augmentations A and B.  A(x1) is to find B(x2) among the batch's.  The discriminator first learns,
    from embeddings without a gradient, to tell pairs (A(x1), A(x2)) from (A(x1), B(x2)); then the encoder
    learns, through it and a gradient reversal, to make both kinds alike.  The logged accuracy of the
    discriminator is that before it learns from the batch: 0.5 is chance.

    SSPS replaces B(x2) in the matching alone: the discriminator goes on seeing what was augmented.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the paper's; 180 frames, 25 ms each every 10 ms, span 1.815 s.

        ``similarity`` is ``prot``, scored by Euclidean distance, or ``a-prot``.  ``alpha`` weighs the
        adversarial loss; the discriminator takes ``steps`` steps to one of the encoder.
        """

        similarity: Literal["prot", "a-prot"] = "a-prot"
        alpha: float = 3.0
        steps: int = 1
        discriminator_lr: float = 1e-3
        seconds: Memory[float] = 1.815

        def __post_init__(self) -> None:
            if self.similarity not in ("prot", "a-prot"):
                raise RecipeError(f"aat similarity is 'prot' or 'a-prot', not {self.similarity!r}")
            if self.alpha < 0 or self.steps < 0 or self.discriminator_lr <= 0:
                raise RecipeError("aat needs alpha >= 0, steps >= 0 and discriminator_lr > 0")

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
        """Return the loss of A(x1) and B(x2), each (B, D)."""
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
        told, _ = self.discriminator(with_reversed_gradient(pairs), alike)
        numbers = {"match": match, "discriminator": told}
        return Step(
            match + o.alpha * told,
            {name: value.detach() for name, value in numbers.items()} | {"discriminator_accuracy": accuracy},
            swap,
        )
