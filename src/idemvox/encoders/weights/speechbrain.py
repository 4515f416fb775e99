"""SpeechBrain's ECAPA-TDNN."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.weights.base import Converted, Peer
from idemvox.encoders.weights.ecapa_layout import ecapa_tdnn
from idemvox.registry import PEERS

__all__ = ["SpeechBrain"]


@PEERS.register("speechbrain")
class SpeechBrain(Peer):
    """``embedding_model.ckpt`` of a recipe or of a published model, such as spkrec-ecapa-voxceleb.

    The front end is that of these recipes: ``Fbank`` and the mean of each recording subtracted. Published
    models with another normalisation exist; a checkpoint does not tell.
    """

    about = "embedding_model.ckpt: ECAPA-TDNN"
    licence = "Apache-2.0"

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        options, new = ecapa_tdnn(state)
        mels = new["stem.conv.weight"].shape[1]
        frontend = FrontEndSettings(kind="speechbrain", mels=mels, n_fft=400, floor=1e-10, normalise="mean")
        return Converted("ecapa_tdnn", options, new, frontend)
