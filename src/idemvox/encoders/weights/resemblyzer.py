"""Resemblyzer's voice encoder, a GE2E LSTM."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.weights.base import Converted, Peer, renamed
from idemvox.registry import PEERS

__all__ = ["Resemblyzer"]


@PEERS.register("resemblyzer")
class Resemblyzer(Peer):
    """``pretrained.pt`` in the package, or a file of the same layout from the training code it came from."""

    about = "pretrained.pt, which lies in its pip package: GE2E LSTM"
    licence = "Apache-2.0"

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        new, unused = renamed(state, {r"(?:model_state\.)?((?:lstm|linear)\..+)": r"network.\1"})
        dim, hidden = new["network.linear.weight"].shape
        layers = sum(name.startswith("network.lstm.weight_ih_l") for name in new)
        mels = new["network.lstm.weight_ih_l0"].shape[1]
        return Converted(
            "ge2e_lstm",
            {"dim": dim, "hidden": hidden, "layers": layers},
            new,
            FrontEndSettings(kind="resemblyzer", mels=mels, window="hann", normalise="none", n_fft=400),
            unused,
        )
