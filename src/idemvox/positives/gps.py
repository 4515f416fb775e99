"""Positives that are near in a given, frozen embedding: GPS-SSL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from idemvox.draws import mix, uniform
from idemvox.errors import RecipeError
from idemvox.positives.base import Positives, Setting
from idemvox.registry import POSITIVES

__all__ = ["GPS"]

_BLOCK = 1 << 26  # similarities held at once


@POSITIVES.register("gps")
class GPS(Positives):
    """Cut the positive view from one of the utterances nearest to the anchor in a given embedding.

    GPS-SSL (Feizi et al., 2023). The embedding is fixed beforehand and never updated: of an earlier run, of
    any other model, or from a file. Each epoch draws one of an utterance's nearest ones (cosine), the same
    for all steps. If labels taught the embedding, they teach this run too, though it reads none.

    The neighbours of N utterances are found exactly, by N^2 similarities, when the first epoch begins; they
    are in the checkpoint.
    """

    tiny: ClassVar[Mapping[str, Any]] = {"neighbours": 3}

    @dataclass(frozen=True, slots=True)
    class Options:
        """Where the embedding is, and how many neighbours to draw from.

        Attributes:
            embeddings: a model folder or a run, which embeds the first 10 s of each utterance before
                training; a folder or ``.npz`` of `idemvox embed`, by id; or ``.npy`` (N, D) in the order of
                the manifest.
            neighbours: number of nearest utterances, the paper's k; its value for speech is not known to us.
        """

        embeddings: str = ""
        neighbours: int = 4

        def __post_init__(self) -> None:
            if self.neighbours < 1:
                raise RecipeError(f"positives.neighbours is 1 or more, not {self.neighbours}")

    near: Tensor
    """(N, M) the nearest utterances of each, nearest first; -1 before the first epoch."""

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        if setting.prior is None:
            raise RecipeError(
                "positives 'gps' needs a frozen embedding: set positives.embeddings to a model folder, "
                "a run, a folder or .npz of `idemvox embed`, or .npy with a row for each utterance"
            )
        if setting.utterances < 2:
            raise RecipeError("positives 'gps' needs at least 2 utterances")
        self._prior = torch.from_numpy(np.asarray(setting.prior, np.float32))
        count = min(options.neighbours, setting.utterances - 1)
        self.register_buffer("near", torch.full((setting.utterances, count), -1))
        self._drawn: tuple[int, npt.NDArray[np.int64]] | None = None

    @classmethod
    def prior(cls, options: Any) -> str | None:
        return options.embeddings or None

    @torch.no_grad()
    def start_epoch(self, epoch: int) -> dict[str, float]:
        if int(self.near[0, 0]) < 0:
            x = F.normalize(self._prior.to(self.near.device), dim=1)
            for rows in torch.arange(len(x), device=x.device).split(max(1, _BLOCK // len(x))):
                cosine = (x[rows] @ x.T).scatter_(1, rows[:, None], float("-inf"))
                self.near[rows] = cosine.topk(self.near.shape[1], dim=1).indices
            self._drawn = None
        return {}

    def partners(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._drawn is None or self._drawn[0] != epoch:
            near = self.near.cpu().numpy()
            everyone = np.arange(len(near))
            place = uniform(mix(self.setting.seed, epoch, everyone, 0x4750), 1)[:, 0] * near.shape[1]
            self._drawn = epoch, near[everyone, place.astype(np.int64)]
        return self._drawn[1]
