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
    """Match two crops of an utterance, and spread each view evenly over the sphere (eq. 3 to 7).

    With SSPS the uniformity of the positive view includes the pseudo-positives, which have no gradient. Pairs
    that a sampler excludes from the negatives are excluded from the uniformity too.
    """

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the two losses; the defaults are the paper's.

        Attributes:
            similarity: loss of the matching: ``a-prot``, one-sided (eq. 4 and 5), or ``a-cont``, in both
                directions (eq. 6).
            uniformity: weight lambda of the uniformity (eq. 7).
            t: t of the Gaussian potential (eq. 1).
            seconds: length of a crop; 1.815 s are 180 frames of 25 ms, one every 10 ms.
        """

        similarity: Literal["a-prot", "a-cont"] = "a-prot"
        uniformity: float = 1.0
        t: float = 2.0
        seconds: Memory[float] = 1.815

        def __post_init__(self) -> None:
            if self.similarity not in ("a-prot", "a-cont"):
                raise RecipeError(
                    f"framework.similarity must be 'a-prot' or 'a-cont', not {self.similarity!r}"
                )
            if self.uniformity < 0 or self.t <= 0:
                raise RecipeError("cel needs framework.uniformity >= 0 and framework.t > 0")

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
