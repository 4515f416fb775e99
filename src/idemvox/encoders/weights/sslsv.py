"""sslsv, the toolkit of the SSPS paper: ECAPA-TDNN and Fast ResNet-34."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from idemvox.encoders.weights.base import Converted, Peer, below
from idemvox.encoders.weights.ecapa_layout import ecapa_tdnn
from idemvox.encoders.weights.fast_resnet_layout import fast_resnet34
from idemvox.encoders.weights.torchaudio_layout import mel_front_end
from idemvox.registry import PEERS

__all__ = ["SSLSV"]

_PREFIX = r"(?:model\.)?(?:module\.)?{}\."


@PEERS.register("sslsv")
class SSLSV(Peer):
    """A checkpoint of any method, ``model_latest.pt`` or ``model_avg.pt``; only the encoder is imported.

    DINO's is the teacher's, as sslsv evaluates it; that of any other method is the one that learns by
    gradients. The window and the number of mels are read off the checkpoint.
    """

    about = "model_*.pt of any method, such as SimCLR or DINO with SSPS: ECAPA-TDNN or Fast ResNet-34"
    licence = "MIT"

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        teacher = any(".head_momentum." in f".{name}" for name in state)
        encoder, unused = below(state, _PREFIX.format("encoder_momentum" if teacher else "encoder"))
        extractor, rest = below(encoder, r"features_extractor\.\d+\.")
        network = {name: encoder[name] for name in rest}
        frontend = mel_front_end(extractor["spectrogram.window"], extractor["mel_scale.fb"])
        if "asp_bn.weight" in network:
            return Converted("ecapa_tdnn", *ecapa_tdnn(network), frontend, unused)
        return Converted("fast_resnet34", *fast_resnet34(network), frontend, unused)
