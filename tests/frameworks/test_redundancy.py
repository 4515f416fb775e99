"""VICReg, Barlow Twins, and VICReg with a contrastive loss: what they compare, and what SSPS replaces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.barlow_twins import BarlowTwins
from idemvox.frameworks.contrastive_vicreg import ContrastiveVICReg
from idemvox.frameworks.vicreg import VICReg
from idemvox.losses.pairwise import info_nce
from idemvox.losses.redundancy import barlow_twins, vicreg

SMALL = {"hidden": 6, "outputs": 3}


@pytest.fixture
def batch() -> Batch:
    views = {n: torch.randn(5, 1, 10) for n in ("anchor", "positive")}
    return Batch(torch.tensor([3, 1, 4, 8, 5]), views)


def projected(framework: torch.nn.Module, batch: Batch) -> list[Tensor]:
    return [framework.projector(framework.encoder(batch.views[n][:, 0])) for n in ("anchor", "positive")]


def test_vicreg_weights_its_terms(batch, encoder, sampler):
    framework = VICReg(encoder, VICReg.Options(2.0, 3.0, 5.0, **SMALL))
    step = framework(batch, sampler())
    terms = vicreg(*projected(framework, batch))
    assert torch.allclose(step.loss, 2 * terms.invariance + 3 * terms.variance + 5 * terms.covariance)
    assert torch.equal(step.metrics["variance"], terms.variance)
    assert framework.embedding_dim == 3 and framework.target(batch).shape == (5, 3)
    step.loss.backward()
    assert encoder.linear.weight.grad.any() and framework.projector[0].weight.grad.any()


def test_barlow_twins_loss_is_scaled(batch, encoder, sampler):
    framework = BarlowTwins(encoder, BarlowTwins.Options(weight=0.1, scale=2.0, **SMALL))
    assert torch.allclose(
        framework(batch, sampler()).loss, 2 * barlow_twins(*projected(framework, batch), 0.1)
    )


@pytest.mark.parametrize("contrastive", ["representation", "projection"])
@pytest.mark.parametrize("regularised", ["representation", "projection"])
def test_all_four_forms_of_contrastive_vicreg(batch, encoder, sampler, contrastive, regularised):
    options = ContrastiveVICReg.Options(0.2, contrastive, regularised, 0.5, 2.0, 3.0, 5.0, **SMALL)
    framework = ContrastiveVICReg(encoder, options)
    other, related = torch.randn(5, 4), torch.rand(5, 5) < 0.3
    step = framework(batch, sampler(lambda ids, targets: other, related))
    pairs = {"representation": (encoder(batch.views["anchor"][:, 0]), other)}
    if "projection" in (contrastive, regularised):
        pairs["projection"] = tuple(framework.projector(x) for x in pairs["representation"])
    else:
        assert not hasattr(framework, "projector")
    terms = vicreg(*pairs[regularised])
    expected = info_nce(*pairs[contrastive], 0.2, related)
    expected = expected + 0.5 * (2 * terms.invariance + 3 * terms.variance + 5 * terms.covariance)
    assert torch.allclose(step.loss, expected)
    assert framework.embedding_dim == 4 and torch.equal(
        framework.target(batch), encoder(batch.views["positive"][:, 0])
    )


def test_impossible_options_are_refused():
    with pytest.raises(RecipeError, match="contrastive_vicreg needs"):
        ContrastiveVICReg.Options(weight=-1)
