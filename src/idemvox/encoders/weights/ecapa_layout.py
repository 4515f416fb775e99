"""ECAPA-TDNN in the layout of SpeechBrain, which sslsv has too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from idemvox.encoders.weights.base import State, renamed

__all__ = ["ecapa_tdnn"]

_LAYER = r"(conv|norm)\.(?:conv\.|norm\.)?(\w+)"  # SpeechBrain puts each layer into a module of its own
_RULES = {
    rf"blocks\.0\.{_LAYER}": r"stem.\1.\2",
    rf"blocks\.(\d+)\.tdnn1\.{_LAYER}": r"blocks.\1.first.\2.\3",
    rf"blocks\.(\d+)\.tdnn2\.{_LAYER}": r"blocks.\1.last.\2.\3",
    rf"blocks\.(\d+)\.res2net_block\.blocks\.(\d+)\.{_LAYER}": r"blocks.\1.res2net.steps.\2.\3.\4",
    r"blocks\.(\d+)\.se_block\.conv1\.conv\.(\w+)": r"blocks.\1.squeeze.\2",
    r"blocks\.(\d+)\.se_block\.conv2\.conv\.(\w+)": r"blocks.\1.excite.\2",
    rf"mfa\.{_LAYER}": r"aggregate.\1.\2",
    r"asp\.tdnn\.conv\.conv\.(\w+)": r"pool.reduce.\1",
    r"asp\.tdnn\.norm\.(?:norm\.)?(\w+)": r"pool.norm.\1",
    r"asp\.conv\.conv\.(\w+)": r"pool.score.\1",
    r"asp_bn\.(?:norm\.)?(\w+)": r"norm.\1",
    r"fc\.conv\.(\w+)": r"fc.\1",
}


def ecapa_tdnn(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], State]:
    """Return the options of our ECAPA-TDNN, and its weights by our names.

    Args:
        state: tensors of the encoder alone.

    Raises:
        KeyError: a tensor is missing, or is of a part that ours does not have.
    """
    new, unknown = renamed(state, _RULES)
    if unknown:
        raise KeyError(f"{', '.join(unknown[:3])} is not part of ECAPA-TDNN as published")
    new = {_moved_up(name): tensor for name, tensor in new.items()}
    for name, tensor in new.items():
        if name.endswith(("squeeze.weight", "excite.weight")) or name == "fc.weight":
            new[name] = tensor.squeeze(-1)  # a convolution with kernel 1
    chunks = {name.split(".")[4] for name in new if name.startswith("blocks.0.res2net.steps.")}
    options = {
        "dim": new["fc.weight"].shape[0],
        "channels": new["stem.conv.weight"].shape[0],
        "mfa_channels": new["aggregate.conv.weight"].shape[0],
        "attention": new["pool.reduce.weight"].shape[0],
        "bottleneck": new["blocks.0.squeeze.weight"].shape[0],
        "scale": len(chunks) + 1,
    }
    return options, new


def _moved_up(name: str) -> str:
    """Count blocks from 0: theirs from 1, because their stem is block 0."""
    parts = name.split(".")
    return ".".join([parts[0], str(int(parts[1]) - 1), *parts[2:]]) if parts[0] == "blocks" else name
