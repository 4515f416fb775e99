"""WeSpeaker: ResNet-34 and ECAPA-TDNN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from idemvox.audio.frontend import FrontEndSettings
from idemvox.encoders.weights.base import Converted, Peer, State, renamed
from idemvox.registry import PEERS

__all__ = ["WeSpeaker"]

_RESNET = {
    r"(conv1|bn1)\.(\w+)": r"\1.\2",
    r"layer(\d)\.(\d+)\.((?:conv|bn)\d|shortcut\.\d)\.(\w+)": r"layers.\1.\2.\3.\4",
    r"seg_1\.(\w+)": r"fc.\1",
}
_UNIT = r"layer(\d)\.se_res2block\."
_ECAPA = {
    r"layer1\.conv\.(\w+)": r"stem.conv.\1",
    r"layer1\.bn\.(\w+)": r"stem.norm.\1",
    rf"{_UNIT}0\.conv\.(\w+)": r"blocks.\1.first.conv.\2",
    rf"{_UNIT}0\.bn\.(\w+)": r"blocks.\1.first.norm.\2",
    rf"{_UNIT}1\.convs\.(\d+)\.(\w+)": r"blocks.\1.res2net.steps.\2.conv.\3",
    rf"{_UNIT}1\.bns\.(\d+)\.(\w+)": r"blocks.\1.res2net.steps.\2.norm.\3",
    rf"{_UNIT}2\.conv\.(\w+)": r"blocks.\1.last.conv.\2",
    rf"{_UNIT}2\.bn\.(\w+)": r"blocks.\1.last.norm.\2",
    rf"{_UNIT}3\.linear1\.(\w+)": r"blocks.\1.squeeze.\2",
    rf"{_UNIT}3\.linear2\.(\w+)": r"blocks.\1.excite.\2",
    r"conv\.(\w+)": r"aggregate.conv.\1",
    r"pool\.linear1\.(\w+)": r"pool.reduce.\1",
    r"pool\.linear2\.(\w+)": r"pool.score.\1",
    r"bn\.(\w+)": r"norm.\1",
    r"linear\.(\w+)": r"fc.\1",
}
_CLASSIFIER = "projection."


@PEERS.register("wespeaker")
class WeSpeaker(Peer):
    """``avg_model.pt`` of ResNet-18, ResNet-34 (one embedding layer) or ECAPA-TDNN.

    The front end is its command line's: Kaldi's fbank without dither, with a Hamming window, and the mean of
    each recording subtracted. WeSpeaker itself then subtracts the mean embedding of its training corpus,
    which is not in the file.
    """

    about = "avg_model.pt of ResNet-34 (TSTP) or ECAPA-TDNN (ASTP)"
    licence = "Apache-2.0"

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> Converted:
        unused = [name for name in state if name.startswith(_CLASSIFIER)]
        network = {name: tensor for name, tensor in state.items() if not name.startswith(_CLASSIFIER)}
        resnet = "seg_1.weight" in network
        new, unknown = renamed(network, _RESNET if resnet else _ECAPA)
        if unknown:
            raise KeyError(f"{', '.join(unknown[:3])} is not part of the networks that can be imported")
        new = {_counted_down(name, 1 if resnet else 2): tensor for name, tensor in new.items()}
        options, mels = _resnet34(new) if resnet else _ecapa_tdnn(new)
        floor = float(torch.finfo(torch.float32).eps)
        frontend = FrontEndSettings(kind="kaldi", mels=mels, normalise="mean", pre_emphasis=0.97, floor=floor)
        return Converted("resnet34" if resnet else "ecapa_tdnn", options, new, frontend, unused)


def _counted_down(name: str, by: int) -> str:
    """Count layers and blocks from 0: theirs begin at 1, and the blocks of ECAPA-TDNN at 2."""
    parts = name.split(".")
    if parts[0] in ("layers", "blocks"):
        parts[1] = str(int(parts[1]) - by)
    return ".".join(parts)


def _resnet34(state: State) -> tuple[dict[str, Any], int]:
    """Return the options of our ResNet-34, and the number of mels."""
    blocks = [
        sum(name.startswith(f"layers.{layer}.") and name.endswith("conv1.weight") for name in state)
        for layer in range(4)
    ]
    channels = [state[f"layers.{layer}.0.conv1.weight"].shape[0] for layer in range(4)]
    dim, pooled = state["fc.weight"].shape
    return {"dim": dim, "channels": channels, "blocks": blocks}, 8 * pooled // (2 * channels[-1])


def _ecapa_tdnn(state: State) -> tuple[dict[str, Any], int]:
    """Return the options of our ECAPA-TDNN, and the number of mels; put channels into our order.

    Their Res2Net leaves the last chunk of channels as it is, ours the first.
    """
    chunks = {name.split(".")[4] for name in state if name.startswith("blocks.0.res2net.steps.")}
    scale = len(chunks) + 1
    for name, tensor in state.items():
        if ".first." in name and tensor.ndim:
            state[name] = torch.cat([tensor.chunk(scale)[-1], *tensor.chunk(scale)[:-1]])
        elif name.endswith(".last.conv.weight"):
            parts = tensor.chunk(scale, dim=1)
            state[name] = torch.cat([parts[-1], *parts[:-1]], dim=1)
    width = state["aggregate.conv.weight"].shape[0]
    options = {
        "dim": state["fc.weight"].shape[0],
        "channels": state["stem.conv.weight"].shape[0],
        "mfa_channels": width,
        "attention": state["pool.reduce.weight"].shape[0],
        "bottleneck": state["blocks.0.squeeze.weight"].shape[0],
        "scale": scale,
        "layout": "wespeaker",
        "context": state["pool.reduce.weight"].shape[1] == 3 * width,
    }
    return options, state["stem.conv.weight"].shape[1]
