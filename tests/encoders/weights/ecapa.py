"""ECAPA-TDNN as SpeechBrain and sslsv write it, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .features import Vector
from .random_weights import State, tensors


def ecapa_state(wrapped: bool) -> State:
    """20 mels, 16 channels in 4 chunks, 24 before pooling, 10 dimensions; ``wrapped`` as in SpeechBrain."""
    conv, norm = (".conv", ".norm") if wrapped else (".conv", "")
    sizes: dict[str, tuple[int, ...]] = {}
    norms: dict[str, int] = {}

    def tdnn(name: str, inputs: int, outputs: int, kernel: int = 1) -> None:
        convolution(f"{name}.conv", inputs, outputs, kernel)
        norms[f"{name}.norm{norm}"] = outputs

    def convolution(name: str, inputs: int, outputs: int, kernel: int = 1) -> None:
        sizes[f"{name}{conv}.weight"] = (outputs, inputs, kernel)
        sizes[f"{name}{conv}.bias"] = (outputs,)

    tdnn("blocks.0", 20, 16, 5)
    for block in ("blocks.1", "blocks.2", "blocks.3"):
        tdnn(f"{block}.tdnn1", 16, 16)
        for step in range(3):
            tdnn(f"{block}.res2net_block.blocks.{step}", 4, 4, 3)
        tdnn(f"{block}.tdnn2", 16, 16)
        convolution(f"{block}.se_block.conv1", 16, 5)
        convolution(f"{block}.se_block.conv2", 5, 16)
    tdnn("mfa", 48, 24)
    tdnn("asp.tdnn", 72, 6)
    convolution("asp.conv", 6, 24)
    norms[f"asp_bn{norm}"] = 48
    convolution("fc", 48, 10)
    return tensors(torch.Generator().manual_seed(2), sizes, norms)


def ecapa_network(state: State, features: Vector) -> Vector:
    """ECAPA-TDNN of (mels, F) features, layer by layer in float64."""
    w = {name: tensor.double() for name, tensor in state.items()}

    def convolution(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        weight = w[f"{name}.conv.weight"]
        edge = dilation * (weight.shape[-1] - 1) // 2
        x = functional.pad(x, (edge, edge), mode="reflect") if edge else x
        return functional.conv1d(x, weight, w[f"{name}.conv.bias"], dilation=dilation)

    def norm(name: str, x: Tensor) -> Tensor:
        name = name if f"{name}.weight" in w else f"{name}.norm"
        scale = w[f"{name}.weight"] / (w[f"{name}.running_var"] + 1e-5).sqrt()
        return (x - w[f"{name}.running_mean"][:, None]) * scale[:, None] + w[f"{name}.bias"][:, None]

    def tdnn(name: str, x: Tensor, dilation: int = 1) -> Tensor:
        return norm(f"{name}.norm", convolution(f"{name}.conv", x, dilation).relu())

    x = tdnn("blocks.0", torch.from_numpy(features)[None])
    outputs = []
    for number, dilation in ((1, 2), (2, 3), (3, 4)):
        block = f"blocks.{number}"
        chunks = list(tdnn(f"{block}.tdnn1", x).chunk(4, dim=1))
        for step in range(3):
            before = chunks[step] if step else 0
            chunks[step + 1] = tdnn(
                f"{block}.res2net_block.blocks.{step}", chunks[step + 1] + before, dilation
            )
        y = tdnn(f"{block}.tdnn2", torch.cat(chunks, dim=1))
        gate = convolution(f"{block}.se_block.conv1", y.mean(-1, keepdim=True)).relu()
        x = x + y * convolution(f"{block}.se_block.conv2", gate).sigmoid()
        outputs.append(x)
    x = tdnn("mfa", torch.cat(outputs, dim=1))
    mean, deviation = (v[..., None].expand_as(x) for v in (x.mean(-1), x.std(-1, correction=0)))
    attention = convolution("asp.conv", tdnn("asp.tdnn", torch.cat([x, mean, deviation], dim=1)).tanh())
    share = attention.softmax(-1)
    centre = (share * x).sum(-1, keepdim=True)
    spread = (share * (x - centre) ** 2).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
    return convolution("fc", norm("asp_bn", torch.cat([centre, spread], dim=1))).flatten().numpy()
