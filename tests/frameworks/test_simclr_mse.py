"""SimCLR + MSE: its clean views, and its loss."""

from __future__ import annotations

import pytest
import torch

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.simclr_mse import SimCLRMSE
from idemvox.losses.pairwise import nt_xent


def test_clean_views_are_the_same_crops(encoder):
    views = SimCLRMSE(encoder).views()
    assert set(views) == {"anchor", "positive", "anchor_clean", "positive_clean"}
    for name in ("anchor", "positive"):
        assert views[name].augment and not views[f"{name}_clean"].augment
        assert views[f"{name}_clean"].cut_as == name
    assert SimCLRMSE.partnered == {"positive", "positive_clean"}


def test_the_loss_adds_the_distance_from_clean_crops_even_where_ssps_replaces(encoder, sampler):
    framework = SimCLRMSE(encoder, SimCLRMSE.Options(temperature=0.2, weight=0.7))
    batch = Batch(torch.arange(5), {name: torch.randn(5, 1, 10) for name in framework.views()})
    other = torch.randn(5, 4)
    embedded = {name: encoder(view[:, 0]) for name, view in batch.views.items()}
    distances = []
    for name in ("anchor", "positive"):
        for a, b in zip(embedded[name], embedded[f"{name}_clean"], strict=True):
            distances.append(((a / a.norm() - b / b.norm()) ** 2).sum())
    step = framework(batch, sampler(lambda ids, targets: other))
    expected = nt_xent(embedded["anchor"], other, 0.2) + 0.7 * torch.stack(distances).mean()
    torch.testing.assert_close(step.loss, expected)
    assert torch.equal(framework.target(batch), embedded["positive"])


def test_impossible_options_are_refused():
    with pytest.raises(RecipeError, match="simclr_mse needs"):
        SimCLRMSE.Options(weight=-1)
