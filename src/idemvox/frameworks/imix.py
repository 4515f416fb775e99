"""i-mix and l-mix for speakers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from idemvox.batch import Batch, Sampler, Step
from idemvox.draws import draw_seed
from idemvox.encoders.base import Encoder
from idemvox.errors import RecipeError
from idemvox.frameworks.base import Paired
from idemvox.losses.mixture import mixed_nce
from idemvox.ranks import gather, own
from idemvox.registry import FRAMEWORKS, Memory

__all__ = ["IMix"]


@FRAMEWORKS.register("imix")
class IMix(Paired):
    """Mix each anchor with another of the batch; the mixture must find both positives, each by its share.

    i-mix (Lee et al., 2021) mixes inputs, here augmented waveforms: ``level: input``. l-mix (Kang et al.,
    2022, for speakers) mixes latent vectors: ``level: latent``. We did not have their settings for speakers,
    so these are a reconstruction: l-mix mixes representations, and the loss is SimCLR's one-sided one, with
    its temperature. Since partners are drawn at random, the larger share is always the anchor's own.

    With SSPS the positives of both are replaced.
    """

    disjoint = False

    @dataclass(frozen=True, slots=True)
    class Options:
        """What is mixed, and how.

        Attributes:
            level: ``input`` mixes waveforms, ``latent`` representations.
            alpha: shares have the distribution Beta(alpha, alpha); 1 draws them evenly.
            temperature: temperature of the softmax.
            seconds: length of a crop.
        """

        level: Literal["input", "latent"] = "input"
        alpha: float = 1.0
        temperature: float = 0.03
        seconds: Memory[float] = 2.0

        def __post_init__(self) -> None:
            if self.level not in ("input", "latent") or self.alpha <= 0 or self.temperature <= 0:
                raise RecipeError(
                    "imix needs level 'input' or 'latent', alpha > 0 and temperature > 0, "
                    f"not {self.level!r}, {self.alpha} and {self.temperature}"
                )

    step: Tensor
    """How many steps have been taken: the seed of the next one's mixtures."""

    def __init__(self, encoder: Encoder, options: Any = None, classes: int = 0) -> None:
        super().__init__(encoder, options, classes)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._step: int | None = None

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._step = None

    def draw(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Draw for each of ``count`` utterances, all ranks', a partner (N,) and its own share (N,)."""
        if self._step is None:
            self._step = int(self.step)  # known on the host, so that no device is asked
        rng = np.random.default_rng(draw_seed(self._step, 0x494D))
        partner = rng.permutation(count)
        share = rng.beta(self.options.alpha, self.options.alpha, count)
        share = np.maximum(share, 1 - share)
        return torch.from_numpy(partner).to(device), torch.from_numpy(share).to(device)

    def forward(self, batch: Batch, positives: Sampler) -> Step:
        o, waves, ids = self.options, batch.views["anchor"][:, 0], gather(batch.ids)
        partner, share = self.draw(len(ids), waves.device)

        def mix(x: Tensor) -> Tensor:
            return torch.lerp(x[partner], x, share[:, None].to(x.dtype))

        if o.level == "input":
            query = gather(self.encoder(own(mix(gather(waves)))))
        else:
            query = mix(gather(self.encoder(waves)))
        swap = positives(batch.ids, self.target(batch))
        related = swap.related(ids)
        loss = mixed_nce(query, swap.targets, partner, share.to(query.dtype), o.temperature, related)
        return Step(loss, swap=swap)

    def after_step(self, progress: float) -> None:
        self.step += 1
        if self._step is not None:
            self._step += 1
