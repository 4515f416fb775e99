"""Label-free gauges, compared with loops over pairs, and on embeddings with known gauges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from idemvox.errors import CorpusError
from idemvox.verification.gauges import gauge
from idemvox.verification.metrics import eer


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def crops():
    """Two crops of 12 utterances; the second has passed through one of 3 channels."""
    rng = np.random.default_rng(0)
    voice = rng.normal(size=(12, 6))
    channels = np.arange(12) % 3
    first, second = (voice + 0.3 * rng.normal(size=voice.shape) for _ in range(2))
    return first, second, second + 2 * rng.normal(size=(3, 6))[channels], channels


def test_gauges_equal_the_definitions(crops):
    first, second, heard, channels = crops
    recordings = np.array([0, 0, 1, 1, 2, -1, -1, 3, 4, 5, 6, 6])
    found = gauge(3 * first, second, heard, channels, recordings)
    a, b, c = unit(first), unit(second), unit(heard)
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    apart = [(i, j) for i, j in pairs if recordings[i] != recordings[j] or recordings[i] < 0]
    assert found.alignment == pytest.approx(np.mean([math.dist(a[i], b[i]) ** 2 for i in range(12)]))
    potentials = [math.exp(-2 * math.dist(a[i], a[j]) ** 2) for i, j in pairs]
    assert found.uniformity == pytest.approx(math.log(np.mean(potentials)))
    for value, side in ((found.pseudo_eer, b), (found.channel_pseudo_eer, c)):
        scores = [a[i] @ side[i] for i in range(12)] + [a[i] @ side[j] for i, j in apart]
        assert value == eer(scores, [1] * 12 + [0] * len(apart)).value
    together = [(i, j) for i, j in pairs if i < j and (i, j) not in apart]
    scores = [a[i] @ a[j] for i, j in together] + [a[i] @ a[j] for i, j in apart if i < j]
    assert len(together) == 3
    assert found.recording_pseudo_eer == eer(scores, np.arange(len(scores)) < 3).value
    assert gauge(first, second, heard, channels).recording_pseudo_eer is None


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_effective_rank_counts_directions(rank):
    x = np.tile(np.eye(8)[:rank], (24 // rank, 1))
    assert gauge(x, x, x, np.arange(24) % 2).effective_rank == pytest.approx(rank)


def test_the_probe_only_finds_existing_channels():
    rng = np.random.default_rng(1)
    voice, channels = rng.normal(size=(200, 8)), np.arange(200) % 4
    loud = gauge(voice, voice, voice + 3 * np.eye(8)[channels], channels)
    deaf = gauge(voice, voice, voice, channels)
    assert loud.channel_probe > 0.8 and deaf.channel_probe < 0.4 and deaf.channel_chance == 0.25
    assert loud.channel_pseudo_eer > 0 == deaf.channel_pseudo_eer


def test_a_collapse_is_visible(crops):
    x = np.ones((12, 6))
    found = gauge(x, x, x, crops[3])
    assert found.alignment == 0 and found.uniformity == pytest.approx(0) and found.pseudo_eer == 1
    assert found.effective_rank == pytest.approx(1)


def test_a_single_recording_is_refused(crops):
    with pytest.raises(CorpusError, match="two recordings"):
        gauge(*crops, np.zeros(12))
