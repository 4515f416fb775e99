"""Clusters that stand for speakers."""

from __future__ import annotations

import pytest
import torch

from idemvox.clustering.partition import partition


@pytest.fixture
def groups() -> tuple[torch.Tensor, torch.Tensor]:
    """60 vectors about 6 directions, of any norm, and a row of zeros."""
    generator = torch.Generator().manual_seed(0)
    speaker = torch.arange(6).repeat_interleave(10)
    centre = torch.randn(6, 16, generator=generator)[speaker]
    x = (centre + 0.1 * torch.randn(60, 16, generator=generator)) * torch.linspace(1, 9, 60)[:, None]
    return torch.cat([x, torch.zeros(1, 16)]), speaker


@pytest.mark.parametrize("clustering", ["agglomerative", "kmeans"])
def test_the_clusters_are_those_by_direction(groups, clustering):
    x, speaker = groups
    found = partition(x, 6, clustering)
    assert found[-1] == -1
    assert len(set(zip(speaker.tolist(), found[:-1].tolist(), strict=True))) == 6


@pytest.mark.parametrize("clustering", ["agglomerative", "kmeans"])
def test_their_number_need_not_be_given(groups, clustering):
    """The numbers that are tried are 30, 24, 19, 15, 12, 9, 7 and so on: 7 is the next to the true 6."""
    x, speaker = groups
    found = partition(x, None, clustering)[:-1]
    assert len(found.unique()) == 7
    assert len(set(zip(speaker.tolist(), found.tolist(), strict=True))) == 7  # none has two speakers


def test_many_rows_are_agglomerated_from_small_clusters(groups):
    x, speaker = groups
    found = partition(x, 6, exact_up_to=20)
    assert len(set(zip(speaker.tolist(), found[:-1].tolist(), strict=True))) == 6
