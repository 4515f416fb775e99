"""i-vectors: a low-dimensional description of how an utterance's cepstra shift a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from idemvox.audio.cepstra import cosines, deltas, energetic, less_sliding_mean
from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.base import Encoder
from idemvox.encoders.mixture import Mixture, expand, from_upper_triangle, upper_triangle, widest
from idemvox.errors import ModelError, RecipeError
from idemvox.registry import ENCODERS

__all__ = ["IVector", "Posterior"]

CHUNK = 4096  # frames whose posteriors are held at once
COMPONENTS, DIM = 512, 200  # if the options leave the sizes to the corpus and there is none


class Posterior(NamedTuple):
    """Posterior of an utterance's latent vector w; a priori w is normal around ``prior``.

    Attributes:
        mean: (B, R).
        root: (B, R, R) Cholesky factor of the precision.
        gain: (B,) log-likelihood above that of the mixture alone, in nats.
    """

    mean: Tensor
    root: Tensor
    gain: Tensor

    def second_moment(self) -> Tensor:
        """(B, R, R) posterior expectation of ``w w^T``."""
        return torch.cholesky_inverse(self.root) + self.mean[:, :, None] * self.mean[:, None, :]


@ENCODERS.register("ivector")
class IVector(Encoder):
    """i-vector extractor (Dehak et al., 2011): MFCCs, a mixture of Gaussians (UBM), total variability.

    The mean of component c is ``m_c + T_c w``, with one w for each utterance. The representation is the
    posterior mean of w, minus its mean over the training corpus. ``loadings`` holds ``A_c = W_c^T T_c``,
    where ``W_c W_c^T`` is the inverse covariance; with whitened sums no covariance is needed (Glembek et al.,
    2011).

    ``idemvox train`` fits it by EM, not by gradient, with a recipe whose encoder is ``ivector``.
    """

    fitter = "em"

    tiny: ClassVar[Mapping[str, Any]] = {"components": 8, "dim": 16}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Sizes, the front end after the log-mel, and how the mixture is fitted.

        Attributes:
            components: number of Gaussians; ``None``: chosen by the hours of the corpus, 2048 for VoxCeleb.
            dim: size of an i-vector; ``None``: likewise, 400 for VoxCeleb.
            covariance: ``full`` is fitted from diagonal covariances, and ten times as slow.
            cepstra: number of cepstra, including C0; with deltas and their deltas D is three times that.
            mean_frames: frames of the sliding mean: 3 s.
            mixture_iterations: iterations of EM for each kind of covariance.
            frames: frames per component that the mixture is fitted to.
        """

        components: int | None = None
        dim: int | None = None
        covariance: Literal["diagonal", "full"] = "diagonal"
        cepstra: int = 24
        mean_frames: int = 300
        mixture_iterations: int = 12
        frames: int = 500

        def __post_init__(self) -> None:
            numbers = (self.components, self.dim, self.cepstra, self.mean_frames, self.mixture_iterations)
            if any(number is not None and number < 1 for number in (*numbers, self.frames)):
                raise RecipeError(f"invalid i-vector settings {self}: all numbers must be at least 1")

    prior: Tensor
    basis: Tensor
    weights: Tensor
    means: Tensor
    factors: Tensor
    loadings: Tensor

    def __init__(self, options: Options | None = None, frontend: FrontEndSettings | None = None) -> None:
        super().__init__(frontend or FrontEndSettings(normalise="none"))
        self.options = o = options or self.Options()
        mels = self.frontend.settings.mels
        if self.frontend.settings.normalise != "none" or mels < o.cepstra:
            raise RecipeError(
                f"i-vectors normalise cepstra themselves: set frontend.normalise=none, "
                f"and frontend.mels to at least encoder.cepstra={o.cepstra}"
            )
        components, size = o.components or COMPONENTS, 3 * o.cepstra
        self.dim = o.dim or DIM
        self.register_buffer("basis", cosines(o.cepstra, mels), persistent=False)
        one = torch.eye(size) if o.covariance == "full" else torch.ones(size)
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.randn(components, size))
        self.register_buffer("factors", one.expand(components, *one.shape).clone())
        self.register_buffer("loadings", torch.randn(components, size, self.dim) / self.dim**0.5)
        self.register_buffer("prior", torch.zeros(self.dim))
        self._derived: tuple[Mixture, Tensor] | None = None
        nn.Module.register_load_state_dict_post_hook(self, lambda module, _: module.forget())

    def put(self, **values: Tensor) -> None:
        """Set buffers by name."""
        for name, value in values.items():
            getattr(self, name).copy_(value)
        self.forget()

    def forget(self) -> None:
        """Discard what was computed from the buffers, so that it is computed again when needed."""
        self._derived = None

    @property
    def derived(self) -> tuple[Mixture, Tensor]:
        """The mixture, and (C, R (R + 1) / 2) the upper triangles of ``loadings^T loadings``."""
        if self._derived is None or self._derived[1].device != self.means.device:
            products = torch.cat([upper_triangle(part.mT @ part) for part in self.loadings.split(32)])
            self._derived = Mixture(self.weights, self.means, self.factors), products
        return self._derived

    def for_export(self) -> None:
        """Raise a :class:`ModelError`."""
        raise ModelError(
            "an i-vector extractor cannot be exported: ONNX has no operation that solves linear equations"
        )

    def encode(self, features: Tensor, frames: Tensor | None) -> Tensor:
        """(B, mels, F) log-mel, (B,) valid frames or ``None`` -> (B, dim)."""
        with torch.autocast(features.device.type, enabled=False):
            return (self.posterior(*self.statistics(features, frames)).mean - self.prior).float()

    def speech(self, features: Tensor, frames: Tensor | None) -> list[Tensor]:
        """Cepstra of the frames with speech, (F_b, D) for each row."""
        rows = []
        sizes = [features.shape[-1]] * len(features) if frames is None else frames.tolist()
        for row, size in zip(features, sizes, strict=True):
            log_mel = row[:, :size]
            cepstra = self.basis @ log_mel
            slopes = deltas(cepstra)
            cepstra = torch.cat([cepstra, slopes, deltas(slopes)])  # (D, F)
            cepstra = less_sliding_mean(cepstra, self.options.mean_frames)
            rows.append(cepstra[:, energetic(log_mel)].T)
        return rows

    def statistics(self, features: Tensor, frames: Tensor | None) -> tuple[Tensor, Tensor]:
        """Counts (B, C) of speech frames and their whitened sums (B, C, D), weighted by posteriors."""
        mixture, _ = self.derived
        both = []
        for cepstra in self.speech(features, frames):
            counts, sums = torch.zeros_like(mixture.weights), torch.zeros_like(mixture.means)
            for x in cepstra.split(CHUNK):
                posteriors = mixture.log_joint(expand(x, mixture.full)).softmax(1)
                counts += posteriors.sum(0)
                sums += posteriors.T @ x
            both.append((counts, mixture.whiten(counts, sums)))
        counts, sums = map(torch.stack, zip(*both, strict=True))
        return counts, sums

    def posterior(self, counts: Tensor, sums: Tensor) -> Posterior:
        """Posterior of w given :meth:`statistics`: precision ``L = I + sum_c N_c A_c^T A_c``.

        Its mean is ``L^-1 (prior + sum_c A_c^T f_c)`` (Kenny et al., 2005). In float64 where the device has
        it.
        """
        _, products = self.derived
        wide = widest(counts)
        prior = self.prior.to(wide)
        precision = from_upper_triangle((counts @ products).to(wide))  # (B, R, R)
        precision += torch.eye(self.dim, dtype=wide, device=counts.device)
        target = prior + (sums.flatten(1) @ self.loadings.flatten(0, 1)).to(wide)  # (B, R)
        root = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve(target[..., None], root).squeeze(-1)
        volume = root.diagonal(dim1=1, dim2=2).log().sum(1)
        gain = (target * mean).sum(1) / 2 - volume - prior.square().sum() / 2
        return Posterior(mean, root, gain)
