"""Fast ResNet-34 in the layouts of voxceleb_trainer and sslsv, which differ in names alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from idemvox.encoders.weights.base import State, renamed

__all__ = ["fast_resnet34"]

_LAYER = r"(?:layer|block)(\d)\.(\d+)\."
_RULES = {
    r"conv1?\.(\w+)": r"conv1.\1",
    r"bn1?\.(\w+)": r"bn1.\1",
    rf"{_LAYER}((?:conv|bn)\d)\.(\w+)": r"layer\1.\2.\3.\4",
    rf"{_LAYER}se\.fc\.0\.(\w+)": r"layer\1.\2.gate.squeeze.\3",
    rf"{_LAYER}se\.fc\.2\.(\w+)": r"layer\1.\2.gate.excite.\3",
    rf"{_LAYER}downsample\.(\d)\.(\w+)": r"layer\1.\2.shortcut.\3.\4",
    r"(?:pooling\.)?sap_linear\.(\w+)": r"pool.project.\1",
    r"(?:pooling\.)?attention": r"pool.context",
    r"fc\.(\w+)": r"fc.\1",
}


def fast_resnet34(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], State]:
    """Return the options of our Fast ResNet-34, and its weights by our names.

    Args:
        state: tensors of the encoder alone, without the front end.

    Raises:
        KeyError: a tensor is missing, or is of a part that ours does not have.
    """
    new, unknown = renamed(state, _RULES)
    if unknown:
        raise KeyError(f"{', '.join(unknown[:3])} is not part of Fast ResNet-34 with self-attentive pooling")
    layers = [f"layer{number}" for number in (1, 2, 3, 4)]
    options = {
        "dim": new["fc.weight"].shape[0],
        "channels": [new[f"{layer}.0.conv1.weight"].shape[0] for layer in layers],
        "blocks": [
            sum(name.startswith(f"{layer}.") and name.endswith(".conv1.weight") for name in new)
            for layer in layers
        ],
        "norm_first": True,
    }
    return options, new
