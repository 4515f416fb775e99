"""ResNet-34 and ECAPA-TDNN as WeSpeaker writes them, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .features import Vector, Wave, kaldi_features
from .random_weights import State, tensors

WIDTHS, BLOCKS = (4, 8, 8, 12), (1, 2, 1, 1)


def resnet_state() -> State:
    """24 mels, 4 to 12 channels, 5 blocks, 10 dimensions, and a classifier of 7 speakers."""
    sizes: dict[str, tuple[int, ...]] = {"conv1.weight": (4, 1, 3, 3)}
    norms, inputs = {"bn1": 4}, 4
    for number, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True), 1):
        for index in range(blocks):
            block = f"layer{number}.{index}"
            sizes |= {f"{block}.conv1.weight": (width, inputs, 3, 3)}
            sizes |= {f"{block}.conv2.weight": (width, width, 3, 3)}
            norms |= {f"{block}.bn1": width, f"{block}.bn2": width}
            if index == 0 and number > 1:
                sizes[f"{block}.shortcut.0.weight"] = (width, inputs, 1, 1)
                norms[f"{block}.shortcut.1"] = width
            inputs = width
    sizes |= {"seg_1.weight": (10, 2 * 12 * 3), "seg_1.bias": (10,), "projection.weight": (7, 10)}
    return tensors(torch.Generator().manual_seed(4), sizes, norms)


def batch_norm(w: State, name: str, x: Tensor) -> Tensor:
    statistics = (w[f"{name}.running_mean"], w[f"{name}.running_var"])
    return functional.batch_norm(x, *statistics, w[f"{name}.weight"], w[f"{name}.bias"])


def resnet_embedding(state: State, wave: Wave) -> Vector:
    w = {name: tensor.double() for name, tensor in state.items() if tensor.is_floating_point()}
    x = torch.from_numpy(kaldi_features(wave))[None, None]
    x = batch_norm(w, "bn1", functional.conv2d(x, w["conv1.weight"], padding=1)).relu()
    for number, blocks in enumerate(BLOCKS, 1):
        for index in range(blocks):
            block, step = f"layer{number}.{index}", 2 if number > 1 and index == 0 else 1
            y = functional.conv2d(x, w[f"{block}.conv1.weight"], stride=step, padding=1)
            y = functional.conv2d(
                batch_norm(w, f"{block}.bn1", y).relu(), w[f"{block}.conv2.weight"], padding=1
            )
            if f"{block}.shortcut.0.weight" in w:
                x = functional.conv2d(x, w[f"{block}.shortcut.0.weight"], stride=step)
                x = batch_norm(w, f"{block}.shortcut.1", x)
            x = (batch_norm(w, f"{block}.bn2", y) + x).relu()
    deviation = (x.var(-1) if x.shape[-1] > 1 else x.new_zeros(x.shape[:-1])).add(1e-8).sqrt()
    pooled = torch.cat([x.mean(-1).flatten(), deviation.flatten()])
    return (w["seg_1.weight"] @ pooled + w["seg_1.bias"]).numpy()


def ecapa_state(context: bool) -> State:
    """24 mels, 16 channels in 8 chunks, 10 dimensions; ``context`` as in the GLOB variants."""
    sizes: dict[str, tuple[int, ...]] = {"layer1.conv.weight": (16, 24, 5), "layer1.conv.bias": (16,)}
    norms = {"layer1.bn": 16}
    for layer in (2, 3, 4):
        unit = f"layer{layer}.se_res2block"
        for part in (0, 2):
            sizes |= {f"{unit}.{part}.conv.weight": (16, 16, 1), f"{unit}.{part}.conv.bias": (16,)}
            norms[f"{unit}.{part}.bn"] = 16
        for step in range(7):
            sizes |= {f"{unit}.1.convs.{step}.weight": (2, 2, 3), f"{unit}.1.convs.{step}.bias": (2,)}
            norms[f"{unit}.1.bns.{step}"] = 2
        sizes |= {f"{unit}.3.linear1.weight": (6, 16), f"{unit}.3.linear1.bias": (6,)}
        sizes |= {f"{unit}.3.linear2.weight": (16, 6), f"{unit}.3.linear2.bias": (16,)}
    sizes |= {"conv.weight": (48, 48, 1), "conv.bias": (48,)}
    sizes |= {"pool.linear1.weight": (5, 144 if context else 48, 1), "pool.linear1.bias": (5,)}
    sizes |= {"pool.linear2.weight": (48, 5, 1), "pool.linear2.bias": (48,)}
    sizes |= {"linear.weight": (10, 96), "linear.bias": (10,), "projection.weight": (7, 10)}
    return tensors(torch.Generator().manual_seed(5), sizes, norms | {"bn": 96})


def ecapa_embedding(state: State, wave: Wave) -> Vector:
    w = {name: tensor.double() for name, tensor in state.items() if tensor.is_floating_point()}

    def convolution(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = w[f"{name}.weight"]
        edge = dilation * (weight.shape[-1] - 1) // 2
        return functional.conv1d(x, weight, w[f"{name}.bias"], padding=edge, dilation=dilation)

    def unit(name: str, x: Tensor) -> Tensor:
        return batch_norm(w, f"{name}.bn", convolution(f"{name}.conv", x).relu())

    x = unit("layer1", torch.from_numpy(kaldi_features(wave))[None])
    outputs = []
    for layer in (2, 3, 4):
        name = f"layer{layer}.se_res2block"
        chunks = unit(f"{name}.0", x).chunk(8, dim=1)
        done: list[Tensor] = []
        for step in range(7):
            y = chunks[step] + done[-1] if done else chunks[0]
            y = convolution(f"{name}.1.convs.{step}", y, layer).relu()
            done.append(batch_norm(w, f"{name}.1.bns.{step}", y))
        y = unit(f"{name}.2", torch.cat([*done, chunks[7]], dim=1))
        gate = functional.linear(
            y.mean(-1), w[f"{name}.3.linear1.weight"], w[f"{name}.3.linear1.bias"]
        ).relu()
        gate = functional.linear(gate, w[f"{name}.3.linear2.weight"], w[f"{name}.3.linear2.bias"]).sigmoid()
        x = x + y * gate[..., None]
        outputs.append(x)
    x = convolution("conv", torch.cat(outputs, dim=1)).relu()
    seen = x
    if w["pool.linear1.weight"].shape[1] > 48:
        variance = x.var(-1, keepdim=True) if x.shape[-1] > 1 else x.new_zeros(1, 48, 1)
        context = (x.mean(-1, keepdim=True), (variance + 1e-10).sqrt())
        seen = torch.cat([x, *(part.expand_as(x) for part in context)], dim=1)
    share = convolution("pool.linear2", convolution("pool.linear1", seen).tanh()).softmax(-1)
    mean = (share * x).sum(-1)
    variance = ((share * x**2).sum(-1) - mean**2).clamp(min=1e-10)
    pooled = batch_norm(w, "bn", torch.cat([mean, variance.sqrt()], dim=1))
    return functional.linear(pooled, w["linear.weight"], w["linear.bias"])[0].numpy()
