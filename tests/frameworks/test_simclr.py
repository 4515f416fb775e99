"""SimCLR: its views, its targets and its loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from idemvox.batch import Batch
from idemvox.corpus.crops import Crop
from idemvox.frameworks.simclr import SimCLR
from idemvox.losses.pairwise import info_nce, nt_xent


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = {n: torch.randn(5, 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.tensor([3, 1, 4, 8, 5]), views)


@pytest.mark.parametrize(("symmetric", "loss"), [(True, nt_xent), (False, info_nce)])
def test_the_loss_compares_the_two_views(batch, symmetric, loss, encoder, sampler):
    framework = SimCLR(encoder, SimCLR.Options(temperature=0.2, symmetric=symmetric))
    step = framework(batch, sampler())
    anchor, positive = (framework.encoder(batch.views[n][:, 0]) for n in ("anchor", "positive"))
    assert float(step.loss.detach()) == pytest.approx(float(loss(anchor, positive, 0.2).detach()), abs=1e-6)
    assert torch.equal(framework.target(batch), positive)


@pytest.mark.parametrize(("symmetric", "loss"), [(True, nt_xent), (False, info_nce)])
def test_related_pairs_are_not_negatives(batch, symmetric, loss, encoder, sampler):
    framework = SimCLR(encoder, SimCLR.Options(temperature=0.2, symmetric=symmetric))
    related = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    found = framework(batch, sampler(related=related.fill_diagonal_(False))).loss.detach()
    anchor, positive = (framework.encoder(batch.views[n][:, 0]).detach() for n in ("anchor", "positive"))
    assert float(found) == pytest.approx(float(loss(anchor, positive, 0.2, related)), abs=1e-6)
    assert abs(float(found) - float(loss(anchor, positive, 0.2))) > 1e-3


@pytest.mark.parametrize(("symmetric", "loss"), [(True, nt_xent), (False, info_nce)])
@pytest.mark.parametrize("angular", [False, True])
def test_the_margin_is_passed_to_the_loss(batch, symmetric, loss, angular, encoder, sampler):
    options = SimCLR.Options(temperature=0.2, symmetric=symmetric, margin=0.3, angular=angular)
    found = SimCLR(encoder, options)(batch, sampler()).loss
    views = [encoder(batch.views[n][:, 0]) for n in ("anchor", "positive")]
    assert torch.equal(found, loss(*views, 0.2, margin=0.3, angular=angular))
    assert found > loss(*views, 0.2)


def test_views_are_two_crops(batch, encoder):
    assert SimCLR(encoder).views() == {"anchor": Crop(1, 2.0), "positive": Crop(1, 2.0)}
    three = SimCLR(encoder, SimCLR.Options(seconds=3.0)).views()
    assert {crop.seconds for crop in three.values()} == {3.0} and all(crop.augment for crop in three.values())


def test_the_sampler_is_called_once_with_ids_and_its_targets_are_used(batch, encoder, sampler):
    framework = SimCLR(encoder, SimCLR.Options(temperature=0.5))
    asked = []
    other = torch.randn(5, 4)

    def swap(ids: Tensor, targets: Tensor) -> Tensor:
        asked.append((ids, targets))
        return other

    step = framework(batch, sampler(swap))
    assert len(asked) == 1 and torch.equal(asked[0][0], batch.ids)
    assert torch.equal(asked[0][1], framework.target(batch)) and asked[0][1].requires_grad
    anchor = framework.encoder(batch.views["anchor"][:, 0])
    assert float(step.loss.detach()) == pytest.approx(float(nt_xent(anchor, other, 0.5).detach()), abs=1e-6)


def test_both_views_get_a_gradient_unless_replaced(batch, encoder, sampler):
    framework = SimCLR(encoder, SimCLR.Options(temperature=0.5))
    for name in ("anchor", "positive"):
        batch.views[name].requires_grad_()
    framework(batch, sampler()).loss.backward()
    assert all(batch.views[n].grad.abs().sum() > 0 for n in ("anchor", "positive"))
    for name in ("anchor", "positive"):
        batch.views[name].grad = None
    framework(batch, sampler(lambda ids, targets: targets.detach())).loss.backward()
    assert batch.views["anchor"].grad.abs().sum() > 0 and batch.views["positive"].grad is None


class Projected(SimCLR):
    """With a projector to 3 numbers."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.projector = nn.Linear(4, 3)

    @property
    def embedding_dim(self) -> int:
        return 3

    def project(self, representation: Tensor) -> Tensor:
        return self.projector(representation)


def test_a_projector_only_needs_one_method(batch, encoder, sampler):
    """Anchors and targets go through the projector, also in the fill pass; the evaluated encoder has none."""
    framework = Projected(encoder)
    anchor, positive = (framework.projector(encoder(batch.views[n][:, 0])) for n in ("anchor", "positive"))
    assert torch.equal(framework.target(batch), positive)
    assert positive.shape[1] == framework.embedding_dim
    step = framework(batch, sampler())
    assert torch.equal(step.loss, nt_xent(anchor, positive, 0.03))
    step.loss.backward()
    assert framework.projector.weight.grad.any() and encoder.linear.weight.grad.any()
    assert framework.embedder is encoder


def test_the_model_is_the_encoder_without_a_projector(encoder):
    framework = SimCLR(encoder)
    assert framework.embedder is framework.encoder and framework.embedding_dim == 4
    assert not SimCLR.supervised
    assert {name.split(".")[0] for name in framework.state_dict()} == {"encoder"}  # no projector


def test_it_learns_to_tell_utterances_apart(encoder, sampler):
    """A few steps on noise around fixed points reduce the loss from log(2B - 1)."""
    framework = SimCLR(encoder, SimCLR.Options(temperature=0.2))
    points = torch.randn(6, 1, 10)
    optimizer = torch.optim.Adam(framework.parameters(), 0.05)
    losses = []
    for _ in range(60):
        views = {n: points + 0.3 * torch.randn(6, 1, 10) for n in ("anchor", "positive")}
        loss = framework(Batch(torch.arange(6), views), sampler()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
