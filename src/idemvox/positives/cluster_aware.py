"""Crops from several utterances of the anchor's cluster: CA-DINO's positives, for every framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from idemvox.errors import RecipeError
from idemvox.positives.base import Setting
from idemvox.positives.ssps import SSPS
from idemvox.positives.ssps_options import Level, SSPSOptions
from idemvox.registry import POSITIVES, Memory

__all__ = ["ClusterAware"]


@POSITIVES.register("cluster_aware")
class ClusterAware(SSPS):
    """Cut the positive crops from several other utterances of the anchor's own cluster.

    CA-DINO (Han et al., 2024): after some epochs of DINO the utterances are clustered, and the crops of an
    item come from several utterances of its cluster. We did not have all details, so some are a
    reconstruction: the global crops stay the anchor's, each local crop comes from a different utterance, and
    there are 10,000 clusters, which are recomputed before each epoch. A framework with one positive crop
    takes the first utterance.

    It is :class:`~idemvox.positives.ssps.SSPS` of views with M = 0 and several utterances, and has its other
    options: clusters of recordings, agglomeration. An utterance alone in its cluster keeps its own positive.
    """

    tiny: ClassVar[Mapping[str, Any]] = {**SSPS.tiny, "utterances": 2}

    @dataclass(frozen=True, slots=True)
    class Options(SSPSOptions):
        """Those of SSPS, of which ``neighbours`` and ``level`` are fixed.

        Attributes:
            utterances: P, how many are drawn for each anchor and epoch; crops take turns in them.
        """

        clusters: Memory[int | None] = 10_000
        neighbours: int = 0
        level: Level = "view"
        utterances: int = 4

        def __post_init__(self) -> None:
            SSPSOptions.__post_init__(self)  # super() does not work in a dataclass with slots
            if self.neighbours or self.level != "view" or self.utterances < 1:
                raise RecipeError(
                    "cluster_aware draws utterances of the anchor's own cluster, as views: leave neighbours "
                    "and level out, and set utterances to 1 or more; for others use positives.name=ssps"
                )

    options: Options

    def __init__(self, options: Options, setting: Setting) -> None:
        super().__init__(options, setting)
        self._several: tuple[int, npt.NDArray[np.int64]] | None = None

    def _forget(self) -> None:
        super()._forget()
        self._several = None

    @torch.no_grad()
    def partners(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return (N, P) utterances of the anchor's cluster; itself where there is no other."""
        if self._several is None or self._several[0] != epoch:
            everyone = torch.arange(self.setting.utterances, device=self.near.device)
            drawn = [
                self._draw_others(everyone, epoch, 0x4341, number)
                for number in range(self.options.utterances)
            ]
            several = torch.stack([torch.where(d < 0, everyone, d) for d in drawn], 1)
            self._several = epoch, several.cpu().numpy()
        return self._several[1]
