"""Whitening by a power makes a cloud of vectors rounder."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from idemvox.clustering.whitening import whiten


def test_whitening_makes_a_cloud_round_or_keeps_its_shape():
    x = normalize(torch.randn(400, 6) * torch.tensor([9.0, 4, 2, 1, 1, 0.5]), dim=1)
    centred = x - x.mean(0)
    torch.testing.assert_close(whiten(5 * x, 0.0) @ whiten(x, 0.0).T, centred @ centred.T, atol=1e-5, rtol=0)
    round_ = whiten(x, 1.0)
    torch.testing.assert_close(round_.T @ round_, torch.eye(6), atol=1e-4, rtol=0)
    singular = torch.linalg.svdvals(centred)
    torch.testing.assert_close(torch.linalg.svdvals(whiten(x, 0.3)), singular**0.7)


def test_axes_without_variance_stay_at_zero():
    x = torch.randn(50, 8)
    x[:, 3:] = 0
    found = whiten(x, 1.0)
    assert torch.isfinite(found).all() and torch.linalg.matrix_rank(found, atol=1e-3) == 3
    assert torch.isfinite(whiten(torch.ones(4, 5), 0.5)).all()
