"""Small random weights in each toolkit's layout, and what an independent implementation makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import librosa
import numpy as np
import scipy.signal
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]
Wave = NDArray[np.float32]
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """A toolkit's small weights, and its embedding of a wave computed independently of our code."""

    peer: str
    encoder: str
    make: Callable[[], State]
    embed: Callable[[State, Wave], Vector]


def tensors(generator: torch.Generator, sizes: dict[str, tuple[int, ...]], norms: dict[str, int]) -> State:
    """Random weights of these sizes, and batch norms of these widths that have seen some data."""
    state = {name: random(generator, *size) for name, size in sizes.items()}
    for name, width in norms.items():
        for leaf, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.{leaf}"] = low + torch.rand(width, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return state


def random(generator: torch.Generator, *size: int, scale: float = 0.3) -> Tensor:
    return scale * torch.randn(*size, generator=generator)


# --- Resemblyzer ---


def resemblyzer_state() -> State:
    """A state dict as Resemblyzer's training code saves it: 20 mels, two layers of 12, 10 dimensions."""
    rng = torch.Generator().manual_seed(1)
    state: State = {"similarity_weight": torch.tensor([10.0]), "similarity_bias": torch.tensor([-5.0])}
    for layer, inputs in enumerate((20, 12)):
        state[f"lstm.weight_ih_l{layer}"] = random(rng, 48, inputs)
        state[f"lstm.weight_hh_l{layer}"] = random(rng, 48, 12)
        state[f"lstm.bias_ih_l{layer}"] = random(rng, 48)
        state[f"lstm.bias_hh_l{layer}"] = random(rng, 48)
    state["linear.weight"], state["linear.bias"] = random(rng, 10, 12, scale=1), random(rng, 10)
    return {f"model_state.{name}": tensor for name, tensor in state.items()}


def resemblyzer_embedding(state: State, wave: Wave) -> Vector:
    """Level, librosa's mel power, windows of 160 frames every 77, an LSTM, the mean of unit vectors."""
    w = {name.removeprefix("model_state."): tensor.double().numpy() for name, tensor in state.items()}
    samples = len(wave)
    level = np.sqrt(np.mean(wave.astype(np.float64) ** 2))
    wave = wave * max(1.0, 10 ** (-30 / 20) / level)
    starts = list(range(0, max(1, -(-(samples + 1) // 160) - 160 + 77 + 1), 77))
    if len(starts) > 1 and (samples - starts[-1] * 160) / 25_600 < 0.75:
        starts.pop()
    wave = np.pad(wave, (0, max(0, (starts[-1] + 160) * 160 - samples)))
    mel = librosa.feature.melspectrogram(y=wave, sr=16_000, n_fft=400, hop_length=160, n_mels=20).T
    units = []
    for start in starts:
        x = mel[start : start + 160].astype(np.float64)
        for layer in (0, 1):
            h = c = np.zeros(12)
            outputs = []
            for frame in x:
                gates = w[f"lstm.weight_ih_l{layer}"] @ frame + w[f"lstm.bias_ih_l{layer}"]
                gates = gates + w[f"lstm.weight_hh_l{layer}"] @ h + w[f"lstm.bias_hh_l{layer}"]
                i, f, g, o = gates.reshape(4, 12)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
                outputs.append(h)
            x = np.array(outputs)
        unit = np.maximum(w["linear.weight"] @ x[-1] + w["linear.bias"], 0)
        units.append(unit / np.linalg.norm(unit))
    mean = np.mean(units, axis=0)
    return mean / np.linalg.norm(mean)


def sigmoid(x: Vector) -> Vector:
    return 1 / (1 + np.exp(-x))


# --- ECAPA-TDNN as SpeechBrain writes it ---


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


def speechbrain_embedding(state: State, wave: Wave) -> Vector:
    """Decibels above the recording's loudest minus 80, in filters as wide to the right as to the left."""
    window = scipy.signal.get_window("hamming", 400)
    spectrum = librosa.stft(wave.astype(np.float64), n_fft=400, hop_length=160, window=window)
    hz = librosa.mel_frequencies(22, fmin=0, fmax=8000, htk=True)
    filters = [
        np.maximum(0, 1 - np.abs(np.linspace(0, 8000, 201) - middle) / (middle - left))
        for left, middle in itertools.pairwise(hz[:-1])
    ]
    decibels = 10 * np.log10(np.maximum(np.array(filters) @ np.abs(spectrum) ** 2, 1e-10))
    decibels = np.maximum(decibels, decibels.max() - 80)
    return ecapa_network(state, decibels - decibels.mean(1, keepdims=True))


LAYOUTS = {
    "resemblyzer": Layout("resemblyzer", "ge2e_lstm", resemblyzer_state, resemblyzer_embedding),
    "speechbrain": Layout(
        "speechbrain", "ecapa_tdnn", lambda: ecapa_state(wrapped=True), speechbrain_embedding
    ),
}
