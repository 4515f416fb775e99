"""Positives by label, and the sampler that keeps every positive."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from idemvox.errors import IdemvoxError
from idemvox.positives.base import Setting
from idemvox.positives.same import Same
from idemvox.positives.supervised import Supervised

SPEAKERS = np.array(
    [2, 0, 1, 2, 0, 2, -1, 2, 3, -1, 2, 0]
)  # speakers 1 and 3 have one utterance each, and two utterances are unlabelled


def sampler(speakers: np.ndarray | None = SPEAKERS, seed: int = 0) -> Supervised:
    return Supervised(Supervised.Options(), Setting(12, 4, 4, seed, speakers))


@pytest.mark.parametrize("epoch", range(20))
def test_partners_share_the_speaker(epoch):
    partner = sampler().partners(epoch)
    anchor = np.arange(12)
    assert sorted(partner) == anchor.tolist()  # each utterance is a positive once
    assert (SPEAKERS[partner] == SPEAKERS).all()
    alone = np.isin(anchor, [2, 6, 8, 9])
    assert (partner[alone] == anchor[alone]).all()
    assert (partner[~alone] != anchor[~alone]).all()
    assert (partner[partner][~alone] != anchor[~alone]).all()  # no two utterances are each other's positive


def test_the_two_utterances_of_a_speaker_are_partners():
    partner = Supervised(Supervised.Options(), Setting(4, 2, 2, 0, np.array([0, 1, 1, 0]))).partners(0)
    assert partner.tolist() == [3, 2, 1, 0]


def test_partners_change_with_the_epoch_and_the_seed():
    first = sampler().partners(0)
    assert np.array_equal(first, sampler().partners(0))
    assert any(not np.array_equal(first, sampler().partners(e)) for e in range(1, 4))
    assert any(not np.array_equal(first, sampler(seed=s).partners(0)) for s in range(1, 4))


def test_all_pairings_are_about_equally_frequent():
    found = np.zeros((5, 5))
    members = np.flatnonzero(SPEAKERS == 2)
    for epoch in range(800):
        for i, p in enumerate(sampler().partners(epoch)[members]):
            found[i, np.searchsorted(members, p)] += 1
    off = found[~np.eye(5, dtype=bool)]
    assert np.trace(found) == 0 and abs(off - 200).max() < 5 * np.sqrt(200)


def test_embeddings_are_unchanged():
    targets = torch.randn(3, 4)
    swap = sampler()(torch.tensor([1, 2, 3]), targets)
    assert swap.targets is targets and swap.replaced is swap.chosen is swap.offered is swap.groups is None


@pytest.mark.parametrize(
    "speakers", [None, np.full(12, -1), np.where(SPEAKERS == 2, 2, -1)], ids=["none", "all -1", "one"]
)
def test_speakers_are_required(speakers):
    with pytest.raises(IdemvoxError, match="needs at least 2 classes"):
        sampler(speakers)


def test_the_sampler_same_changes_nothing():
    same = Same(Same.Options(), Setting(12, 4, 4, 0))
    targets = torch.randn(3, 4, requires_grad=True)
    swap = same(torch.tensor([1, 2, 3]), targets)
    assert swap.targets is targets and swap.replaced is swap.chosen is swap.offered is swap.groups is None
    assert swap.related(torch.arange(3)) is None
    assert same.partners(0) is None and same.views() == {} and same.start_epoch(0) == {}
    assert not same.needs_fill and not same.supervised
