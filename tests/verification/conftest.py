"""A tiny labelled corpus and a tiny encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from idemvox.audio.read import write_wav
from idemvox.corpus.manifest import Manifest, Utterance


class Bands(nn.Module):
    """Mean power in 8 bands over the valid frames of 400 samples, through one linear layer and a dropout."""

    dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, self.dim)
        self.dropout = nn.Dropout(0.5)
        self.batches: list[tuple[int, ...]] = []

    def forward(self, wave, lengths=None):
        self.batches.append(tuple(wave.shape))
        frames = wave[:, : wave.shape[1] // 400 * 400].reshape(len(wave), -1, 400)  # (B, F, 400)
        power = torch.fft.rfft(frames).abs()[..., 1:].reshape(*frames.shape[:2], 8, 25).mean(-1)  # (B, F, 8)
        mask = (torch.arange(frames.shape[1])[None] < (lengths // 400)[:, None]).float()[..., None]
        pooled = (power * mask).sum(1) / mask.sum(1)  # (B, 8)
        return self.dropout(self.linear(torch.log(pooled + 1e-3)))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return Bands().train()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """4 speakers (by pitch) x 2 recordings (by level of hiss) x 2 utterances of different lengths."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    rows = []
    for s in range(4):
        for r in range(2):
            for u in range(2):
                seconds = float(rng.uniform(0.3, 1.2))
                time = np.arange(int(seconds * 16_000)) / 16_000
                tone = 0.3 * np.sign(np.sin(2 * np.pi * 400 * (s + 1) * time))
                hiss = 0.03 * (r + 1) * rng.normal(size=len(time))
                path = f"s{s}/r{r}/{u}.wav"
                write_wav(root / path, tone + hiss)
                rows.append(Utterance(f"{s}{r}{u}", path, seconds, speaker=f"s{s}", recording=f"s{s}r{r}"))
    return Manifest(rows, root)
