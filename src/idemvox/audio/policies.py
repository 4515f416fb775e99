"""How often each augmentation is applied: the papers' policies by name, and the draws for a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["POLICIES", "SNR", "Draws", "Policy", "PolicyName"]

PolicyName = Literal[
    "none", "noise", "reverb", "always", "all", "aat-1", "aat-2", "aat-3", "voxceleb_trainer"
]

SNR: Mapping[str, tuple[float, float]] = {"noise": (0, 15), "music": (5, 15), "speech": (13, 20)}
"""Ranges of the uniform signal-to-noise ratio in dB, by kind: those of the VoxCeleb recipes for MUSAN."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often each augmentation is applied to a sample.

    Attributes:
        shares: probabilities of nothing, noise alone, a room alone, and a room and then noise.
        babble: minimum and maximum number of ``speech`` clips to sum; other kinds always use one clip.
        room_gain: range of a room's level g, uniform; the amplitude is multiplied by 10 ** (g / 10). Noise
            follows this level, so it matters only through the front end's floor.
    """

    shares: tuple[float, float, float, float]
    babble: tuple[int, int] = (3, 7)
    room_gain: tuple[float, float] = (0.0, 0.0)


POLICIES: Mapping[PolicyName, Policy] = {
    "none": Policy((1, 0, 0, 0)),
    "noise": Policy((0, 1, 0, 0)),
    "reverb": Policy((0, 0, 1, 0)),
    "always": Policy((0, 0, 0, 1)),
    "all": Policy((0.25, 0.25, 0.25, 0.25)),
    "aat-1": Policy((0, 1, 0, 0), (1, 1), (-7, 3)),
    "aat-2": Policy((0, 0.75, 0.25, 0), (1, 1), (-7, 3)),
    "aat-3": Policy((0, 0, 0, 1), (1, 1), (-7, 3)),
    "voxceleb_trainer": Policy((0.2, 0.6, 0.2, 0)),
}
"""Named as in the papers and their code. SimCLR and SSPS use ``always``, and DINO uses ``all``. ``aat-1`` to
``aat-3`` are the augmentation types of AAT and CEL (their best is 3). ``voxceleb_trainer`` applies nothing, a
room, music, babble or noise, with probability 1/5 each."""


@dataclass(frozen=True, slots=True)
class Draws:
    """The augmentation of each of B samples.

    Attributes:
        room: (B,) index into the room bank, -1 for none.
        room_gain: (B,) gain of the reverberated sample, in amplitude.
        kind: (B,) index of the kind of noise among the sorted kinds, -1 for none.
        count: (B,) number of clips to sum.
        piece, offset: (B, most) the pieces of that kind's bank and where each clip starts.
        snr_db: (B,) ratio of the reverberated sample to the summed clips, dB.
        telephone: (B,) whether the result goes through a telephone.
    """

    room: npt.NDArray[np.int64]
    room_gain: npt.NDArray[np.float64]
    kind: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    piece: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    snr_db: npt.NDArray[np.float64]
    telephone: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.room)
