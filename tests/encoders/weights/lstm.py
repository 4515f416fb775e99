"""Resemblyzer's voice encoder, written out."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from .features import Vector, Wave
from .random_weights import State, random


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
