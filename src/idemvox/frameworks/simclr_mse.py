"""SimCLR with a loss that makes embeddings invariant to the channel."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from idemvox.batch import Batch, Sampler, Step
from idemvox.corpus.crops import Views
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.losses.pairwise import nt_xent
from idemvox.losses.prediction import unit_distance
from idemvox.ranks import gather
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["SimCLRMSE"]


@FRAMEWORKS.register("simclr_mse")
class SimCLRMSE(Paired):
    """SimCLR, and each augmented crop embedded where the same crop is without augmentation.

    Zhang et al. (2021). The loss is ``NT-Xent + lambda / 2B sum_v |e(x_v) - e(A(x_v))|^2`` of unit
    embeddings, over both crops of each utterance. We did not have the weight lambda and the settings, so this
    is a reconstruction: lambda is 1, and the settings are SimCLR's. Clean crops get a gradient too.

    With SSPS the positive view is replaced in NT-Xent; the other loss compares the utterance's own crops.
    """

    disjoint = False
    partnered = frozenset({"positive", "positive_clean"})

    @dataclass(frozen=True, slots=True)
    class Options:
        """Settings of the losses.

        Attributes:
            temperature: temperature of the softmax.
            weight: lambda; 0 is SimCLR at twice the cost.
            seconds: length of a crop.
        """

        temperature: float = 0.03
        weight: float = 1.0
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.temperature <= 0 or self.weight < 0:
                raise RecipeError("simclr_mse needs temperature > 0 and weight >= 0")

    def views(self) -> Views:
        views = super().views()
        clean = {f"{name}_clean": replace(crop, augment=False, cut_as=name) for name, crop in views.items()}
        return views | clean

    def _embed(self, batch: Batch, view: str) -> Tensor:
        embedding: Tensor = self.encoder(batch.views[view][:, 0])  # (B, D)
        return embedding

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o = self.options
        query, target = self._embed(batch, "anchor"), self._embed(batch, "positive")
        swap = positives(batch.ids, target)
        contrast = nt_xent(gather(query), swap.targets, o.temperature, swap.related(gather(batch.ids)))
        shift = (
            unit_distance(query, self._embed(batch, "anchor_clean"))
            + unit_distance(target, self._embed(batch, "positive_clean"))
        ) / 2
        numbers = {"contrast": contrast.detach(), "shift": shift.detach()}
        return Step(contrast + o.weight * shift, numbers, swap)
