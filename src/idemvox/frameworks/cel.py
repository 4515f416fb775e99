"""CEL: contrastive equilibrium learning (Mun et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from idemvox.batch import Batch, Sampler, Step
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.frameworks.parts.heads import Affine
from idemvox.losses.prototypical import angular_contrastive, angular_prototypical
from idemvox.losses.uniformity import uniformity
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["CEL"]


@FRAMEWORKS.register("cel")
class CEL(Paired):
    """Two crops of an utterance find each other, while each view spreads evenly over the sphere (eq. 3 to 7).

    ``similarity`` is ``a-prot``, one-sided (eq. 4 and 5), or ``a-cont``, in both directions (eq. 6).

    With SSPS the positive view's uniformity is that of what was put in, which has no gradient.  Where a
    sampler leaves negatives out, uniformity does not push them away either.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Defaults: the paper's; 180 frames, 25 ms each every 10 ms, span 1.815 s.

        ``uniformity`` is lambda (eq. 7), ``t`` that of the Gaussian potential.
        """

        similarity: Literal["a-prot", "a-cont"] = "a-prot"
        uniformity: float = 1.0
        t: float = 2.0
        seconds: Memory[float] = 1.815

        def __post_init__(self) -> None:
            if self.similarity not in ("a-prot", "a-cont"):
                raise RecipeError(f"cel similarity is 'a-prot' or 'a-cont', not {self.similarity!r}")
            if self.uniformity < 0 or self.t <= 0:
                raise RecipeError("cel needs uniformity >= 0 and t > 0")

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.affine = Affine()
        self.match = angular_prototypical if self.options.similarity == "a-prot" else angular_contrastive

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        query, target, related, swap = self.embed(batch, positives)
        scale, t = self.affine.scale, self.options.t
        match = self.match(query, target, scale, self.affine.bias, related)
        spread = (uniformity(query, t, related) + uniformity(target, t, related)) / 2
        numbers = {"match": match, "uniformity": spread, "scale": scale}
        return Step(
            match + self.options.uniformity * spread,
            {name: value.detach() for name, value in numbers.items()},
            swap,
        )
