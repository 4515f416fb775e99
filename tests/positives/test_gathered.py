"""The values that the loop passes to a sampler, and those it gets back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from idemvox.batch import Swap
from idemvox.positives.base import Positives, Setting
from idemvox.positives.gathered import Gathered
from idemvox.registry import POSITIVES

SETTING = Setting(utterances=6, dim=3, embedding_dim=2, seed=0)


class Reporting(Positives):
    """A sampler of views that also reports which utterances its targets are from."""

    def forward(self, ids: Tensor, targets: Tensor) -> Swap:
        return Swap(targets, replaced=torch.ones_like(ids, dtype=torch.bool), chosen=ids.flip(0))


class Storing(Positives):
    def __init__(self, options: Any, setting: Setting) -> None:
        super().__init__(options, setting)
        self.stored: list[tuple[Tensor, Tensor]] = []

    def store(self, ids: Tensor, targets: Tensor) -> None:
        self.stored.append((ids, targets))


def test_targets_of_a_sampler_of_views_keep_their_gradient():
    targets = torch.randn(6, 2, requires_grad=True)
    swap = Gathered(Reporting(None, SETTING))(torch.arange(6), targets)
    assert swap.replaced.all() and swap.chosen.tolist() == [5, 4, 3, 2, 1, 0]
    swap.targets.sum().backward()
    assert torch.equal(targets.grad, torch.ones(6, 2))


def test_only_offered_targets_are_stored():
    sampler = Storing(None, SETTING)
    gathered, ids, targets = Gathered(sampler), torch.tensor([4, 1]), torch.randn(2, 2)
    gathered.learnt(ids, Swap(torch.zeros(2, 2)))
    assert not sampler.stored
    gathered.learnt(ids, Swap(torch.zeros(2, 2), offered=targets))
    [(whose, stored)] = sampler.stored
    assert torch.equal(whose, ids) and torch.equal(stored, targets)


@pytest.mark.parametrize("name", [*POSITIVES])
def test_choosing_stores_nothing(name):
    """The sampler's state stays the same except for the step number, on which its draws depend."""
    cls = POSITIVES[name]
    options = {"clusters": 2} if hasattr(cls.Options, "clusters") else {}
    classes = np.arange(6) // 2 if cls.supervised else None
    setting = Setting(6, 3, 2, seed=0, classes=classes, prior=np.eye(6, dtype=np.float32))
    sampler = cls(cls.Options(**options), setting)
    sampler.observe(torch.arange(6), torch.randn(6, 3))
    sampler.start_epoch(0)
    sampler.store(torch.arange(6), torch.randn(6, 2))
    before = {key: value.clone() for key, value in sampler.state_dict().items() if key != "step"}
    sampler(torch.arange(6), torch.randn(6, 2))
    after = sampler.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
