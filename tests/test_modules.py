"""Helpers for any torch module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from idemvox.modules import evaluating


def test_evaluating_restores_the_mode_of_each_part():
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2)))
    for training in (True, False):
        module.train(training)
        module[1][1].eval()
        with pytest.raises(ZeroDivisionError), evaluating(module):
            assert not any(part.training for part in module.modules()) and not torch.is_grad_enabled()
            raise ZeroDivisionError
        assert torch.is_grad_enabled() and not module[1][1].training
        assert all(part.training is training for part in module.modules() if part is not module[1][1])
