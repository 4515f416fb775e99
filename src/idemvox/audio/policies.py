"""What augmentation does to a sample how often: the policies of the papers by name, and a batch's draws."""

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
"""Signal-to-noise ratios in dB, uniform, by kind: those of the VoxCeleb recipes for MUSAN."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a sample gets what.

    Attributes:
        shares: probabilities of nothing, noise alone, a room alone, and a room and then noise.
        babble: fewest and most clips of ``speech`` that are summed; of other kinds it is always one.
        room_gain: range of a room's level g, uniform, for 10 ** (g / 10) in amplitude; noise follows the
            level, so only the front end's floor tells the difference.
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
"""By the names of the papers and their code: ``always`` is SimCLR's and SSPS's, ``all`` DINO's, ``aat-1`` to
``aat-3`` the augment types of AAT and CEL (their best is 3), ``voxceleb_trainer`` one of nothing, a room,
music, babble and noise, a fifth each."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What befalls each of B samples.

    Attributes:
        room: (B,) number in the room bank, -1 for none.
        room_gain: (B,) what the reverberated sample is multiplied by.
        kind: (B,) number of the kind of noise among the sorted kinds, -1 for none.
        count: (B,) clips that are summed.
        piece, offset: (B, most) the pieces of that kind's bank and where each clip begins.
        snr_db: (B,) ratio of the reverberated sample to the sum.
        telephone: (B,) whether it then goes through a telephone.
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
