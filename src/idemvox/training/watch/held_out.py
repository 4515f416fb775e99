"""Held-out audio, on which label-free gauges are measured after each epoch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from idemvox.arrays import Numbers, Pcm
from idemvox.audio.channel import ChannelSpec, draw_channel
from idemvox.audio.memory import to_wave
from idemvox.audio.read import SAMPLE_RATE, from_pcm, to_pcm
from idemvox.corpus.corpus import open_corpus
from idemvox.errors import RecipeError
from idemvox.modules import evaluating
from idemvox.verification.gauges import gauge

__all__ = ["HeldOut"]

SECONDS = 2.0  # length of a crop
CHANNELS = 4
FEWEST = 4 * CHANNELS  # utterances below which a gauge says little
_SPEC = ChannelSpec(codecs=(("none", 1.0), ("g711", 1.0)))
_BATCH = 64


class HeldOut:
    """Crops of held-out utterances; speakers are not read.

    Each utterance gives two crops, its beginning and its end, which do not overlap. The second is also heard
    through one of four simulated channels, dealt evenly.

    Args:
        path: manifest or pack of audio that is not trained on.
        most: most utterances, drawn by the seed.
        seed: of the draw and of the channels.

    Raises:
        RecipeError: too few utterances are long enough for two crops.
    """

    def __init__(self, path: Path, most: int, seed: int) -> None:
        corpus = open_corpus(path)
        width = round(SECONDS * SAMPLE_RATE)
        long = np.flatnonzero(np.asarray(corpus.source.lengths) >= 2 * width)
        if len(long) < FEWEST:
            raise RecipeError(
                f"data.held_out={path} has {len(long)} utterances of {2 * SECONDS:g} s or more; gauges need "
                f"{FEWEST}: give more audio, or leave it out"
            )
        rows = np.sort(np.random.default_rng([seed, 0x6A06E]).permutation(long)[:most])
        self.recordings: Numbers = corpus.recordings_alone()[rows]
        self.channels: Numbers = np.arange(len(rows)) % CHANNELS
        pcm: Pcm = np.zeros((3, len(rows), width), np.int16)  # first, second, heard
        places = [draw_channel(seed * CHANNELS + number, _SPEC) for number in range(CHANNELS)]
        for at, row in enumerate(rows.tolist()):
            corpus.source.read_into(row, 0, pcm[0, at])
            corpus.source.read_into(row, int(corpus.source.lengths[row]) - width, pcm[1, at])
            pcm[2, at] = to_pcm(places[at % CHANNELS].apply(from_pcm(pcm[1, at]), at))
        self._pcm = torch.from_numpy(pcm)

    def embed(self, embedder: nn.Module, device: torch.device) -> NDArray[np.float32]:
        """Return (3, U, D) the embeddings of the first, second and heard crops; the mode is restored."""
        with evaluating(embedder):
            embedded = torch.stack(
                [
                    torch.cat(
                        [embedder(to_wave(part.to(device))).float().cpu() for part in crops.split(_BATCH)]
                    )
                    for crops in self._pcm
                ]
            )
        return embedded.numpy()

    def measure(self, embedder: nn.Module, device: torch.device) -> dict[str, float]:
        """Return the gauges of an encoder by name, each with ``gauge_`` in front; its mode is restored."""
        embedded = self.embed(embedder, device)
        if not np.isfinite(embedded).all():
            return {}  # the run is about to stop, and says why
        known = self.recordings if (self.recordings >= 0).any() else None
        first, second, heard = embedded
        found = gauge(first, second, heard, self.channels, known)
        return {f"gauge_{name}": value for name, value in asdict(found).items() if value is not None}
