"""Fast ResNet-34 as voxceleb_trainer and sslsv write it, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .features import Vector
from .random_weights import State, tensors

WIDTHS, BLOCKS, STRIDES = (8, 8, 16, 16), (1, 2, 1, 1), (1, 2, 2, 1)


def resnet_state(conv: str, norm: str, layer: str, pooling: str) -> State:
    """Channels 8 to 16 and 5 blocks, 10 dimensions; the toolkits name the parts differently."""
    sizes: dict[str, tuple[int, ...]] = {f"{conv}.weight": (8, 1, 7, 7)}
    norms = {norm: 8}
    inputs = 8
    for number, (width, blocks, stride) in enumerate(zip(WIDTHS, BLOCKS, STRIDES, strict=True), 1):
        for index in range(blocks):
            block = f"{layer}{number}.{index}"
            sizes[f"{block}.conv1.weight"] = (width, inputs, 3, 3)
            sizes[f"{block}.conv2.weight"] = (width, width, 3, 3)
            norms |= {f"{block}.bn1": width, f"{block}.bn2": width}
            for part, shape in (("0", (width // 8, width)), ("2", (width, width // 8))):
                sizes |= {f"{block}.se.fc.{part}.weight": shape, f"{block}.se.fc.{part}.bias": shape[:1]}
            if inputs != width or (stride > 1 and index == 0):
                sizes[f"{block}.downsample.0.weight"] = (width, inputs, 1, 1)
                norms[f"{block}.downsample.1"] = width
            inputs = width
    sizes |= {f"{pooling}sap_linear.weight": (16, 16), f"{pooling}sap_linear.bias": (16,)}
    sizes |= {f"{pooling}attention": (16, 1), "fc.weight": (10, 16), "fc.bias": (10,)}
    return tensors(torch.Generator().manual_seed(3), sizes, norms)


def resnet_network(state: State, features: Vector, conv: str, norm: str, layer: str, pooling: str) -> Vector:
    """The embedding of (mels, F) features in float64; batch norm comes before ReLU in the stem only."""
    w = {name: tensor.double() for name, tensor in state.items() if tensor.is_floating_point()}

    def norm_of(name: str, x: Tensor) -> Tensor:
        statistics = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
        return functional.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])

    x = functional.conv2d(
        torch.from_numpy(features)[None, None], w[f"{conv}.weight"], stride=(2, 1), padding=3
    )
    x = norm_of(norm, x).relu()
    for number, (blocks, stride) in enumerate(zip(BLOCKS, STRIDES, strict=True), 1):
        for index in range(blocks):
            block, step = f"{layer}{number}.{index}", stride if index == 0 else 1
            y = functional.conv2d(x, w[f"{block}.conv1.weight"], stride=step, padding=1).relu()
            y = functional.conv2d(norm_of(f"{block}.bn1", y), w[f"{block}.conv2.weight"], padding=1)
            y = norm_of(f"{block}.bn2", y)
            gate = functional.linear(
                y.mean((2, 3)), w[f"{block}.se.fc.0.weight"], w[f"{block}.se.fc.0.bias"]
            ).relu()
            gate = functional.linear(gate, w[f"{block}.se.fc.2.weight"], w[f"{block}.se.fc.2.bias"]).sigmoid()
            if f"{block}.downsample.0.weight" in w:
                x = functional.conv2d(x, w[f"{block}.downsample.0.weight"], stride=step)
                x = norm_of(f"{block}.downsample.1", x)
            x = (y * gate[:, :, None, None] + x).relu()
    frames = x.mean(2)[0].T  # (F, C)
    linear = w[f"{pooling}sap_linear.weight"], w[f"{pooling}sap_linear.bias"]
    share = (functional.linear(frames, *linear).tanh() @ w[f"{pooling}attention"]).softmax(0)
    pooled = (share * frames).sum(0)
    return (w["fc.weight"] @ pooled + w["fc.bias"]).numpy()
