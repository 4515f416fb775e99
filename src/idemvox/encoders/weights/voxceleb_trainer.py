"""voxceleb_trainer: Fast ResNet-34, there called ResNetSE34L."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.weights.base import Converted, Peer, below
from idemvox.encoders.weights.fast_resnet_layout import fast_resnet34
from idemvox.encoders.weights.torchaudio_layout import mel_front_end
from idemvox.registry import PEERS

__all__ = ["VoxCelebTrainer"]

_PREFIX = r"(?:model_state_dict\.|model\.)?(?:module\.)?(?:__S__\.)?"
_OTHERS = r"(?:optimizer|scheduler)_state_dict\.|.*\b__L__\."


@PEERS.register("voxceleb_trainer")
class VoxCelebTrainer(Peer):
    """A ``.model`` file of ResNetSE34L with self-attentive pooling, such as ``baseline_lite_ap.model``.

    The front end is read off the file. A file without one is from voxceleb_unsupervised or the code of CEL,
    whose features have a Hann window and are of 16-bit samples: the number added before the logarithm is
    smaller by 2^30.
    """

    about = "*.model of ResNetSE34L (not of ResNetSE34V2): Fast ResNet-34"
    licence = "MIT"

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        unused = [name for name in state if re.match(_OTHERS, name)]
        encoder, _ = below({name: state[name] for name in state.keys() - unused}, _PREFIX)
        extractor, rest = below(encoder, r"torchfb\.(?:1\.)?(?=spectrogram|mel_scale)|torchfb\.0\.")
        network = {name: encoder[name] for name in rest}
        frontend = FrontEndSettings(window="hann", floor=1e-6 / 2**30)
        if extractor:
            frontend = mel_front_end(
                extractor["spectrogram.window"],
                extractor["mel_scale.fb"],
                0.97 if "flipped_filter" in extractor else 0.0,
            )
        return Converted("fast_resnet34", *fast_resnet34(network), frontend, unused)
