"""CEL and the systems of its Table 1 with two views: their views, losses and scoring."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from idemvox.batch import Batch
from idemvox.corpus.crops import Crop
from idemvox.errors import IdemvoxError
from idemvox.frameworks.angular_prototypical import AngularPrototypical
from idemvox.frameworks.base import Framework
from idemvox.frameworks.cel import CEL
from idemvox.frameworks.prototypical import Prototypical
from idemvox.losses.prototypical import angular_contrastive, angular_prototypical, prototypical
from idemvox.losses.uniformity import uniformity


def plain(anchor: Tensor, positive: Tensor, out: Tensor | None = None) -> Tensor:
    return prototypical(anchor, positive, out)


def angular(anchor: Tensor, positive: Tensor, out: Tensor | None = None) -> Tensor:
    return angular_prototypical(anchor, positive, 10.0, -5.0, out)


def cel(anchor: Tensor, positive: Tensor, out: Tensor | None = None) -> Tensor:
    spread = [uniformity(view, 2.0, out) for view in (anchor, positive)]
    return angular_prototypical(anchor, positive, 10.0, -5.0, out) + 0.5 * (spread[0] + spread[1])


def cel_both(anchor: Tensor, positive: Tensor, out: Tensor | None = None) -> Tensor:
    spread = [uniformity(view, 3.0, out) for view in (anchor, positive)]
    return angular_contrastive(anchor, positive, 10.0, -5.0, out) + 0.25 * (spread[0] + spread[1])


A_CONT = CEL.Options(similarity="a-cont", uniformity=0.5, t=3.0)
ROWS = [
    (Prototypical, None, plain),
    (AngularPrototypical, None, angular),
    (CEL, None, cel),
    (CEL, A_CONT, cel_both),
]
each = pytest.mark.parametrize(("cls", "options", "loss"), ROWS)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    views = {n: torch.randn(5, 1, 10, generator=generator) for n in ("anchor", "positive")}
    return Batch(torch.tensor([3, 1, 4, 8, 5]), views)


def embedded(framework: Framework, batch: Batch) -> list[Tensor]:
    return [framework.encoder(batch.views[name][:, 0]).detach() for name in ("anchor", "positive")]


@each
def test_the_loss_compares_the_two_views(batch, cls, options, loss, encoder, sampler):
    framework = cls(encoder, options)
    anchor, positive = embedded(framework, batch)
    torch.testing.assert_close(framework(batch, sampler()).loss.detach(), loss(anchor, positive))
    assert torch.equal(framework.target(batch), positive)


@each
def test_related_pairs_are_not_negatives(batch, cls, options, loss, encoder, sampler):
    framework = cls(encoder, options)
    related = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    found = framework(batch, sampler(related=related.fill_diagonal_(False))).loss.detach()
    views = embedded(framework, batch)
    torch.testing.assert_close(found, loss(*views, related))
    assert abs(float(found - loss(*views))) > 1e-3


@each
def test_the_sampler_is_called_once_with_ids_and_its_targets_are_used(
    batch, cls, options, loss, encoder, sampler
):
    framework = cls(encoder, options)
    asked, other = [], torch.randn(5, 4)

    def swap(ids: Tensor, targets: Tensor) -> Tensor:
        asked.append((ids, targets))
        return other

    found = framework(batch, sampler(swap)).loss.detach()
    assert len(asked) == 1 and torch.equal(asked[0][0], batch.ids)
    assert torch.equal(asked[0][1], framework.target(batch)) and asked[0][1].requires_grad
    torch.testing.assert_close(found, loss(embedded(framework, batch)[0], other))


@each
def test_views_are_two_crops_of_180_frames_that_do_not_overlap(cls, options, loss, encoder):
    views = cls(encoder, options).views()
    assert views == {name: Crop(1, 1.815, disjoint=True) for name in ("anchor", "positive")}
    assert all((crop.samples - 400) // 160 + 1 == 180 for crop in views.values())
    assert (views["anchor"].samples - 400) % 160 == 0


@each
def test_a_model_trained_with_distances_is_scored_by_distances(cls, options, loss, encoder):
    framework = cls(encoder, options)
    expected = "euclidean" if cls is Prototypical else "cosine"
    assert framework.scoring == expected and not cls.supervised
    assert framework.embedder is encoder and framework.embedding_dim == 4


@pytest.mark.parametrize("cls", [AngularPrototypical, CEL])
def test_the_scale_is_trained(batch, cls, encoder, sampler):
    framework = cls(encoder)
    step = framework(batch, sampler())
    step.loss.backward()
    assert framework.affine.weight.grad.abs() > 1e-4 and float(step.metrics["scale"]) == 10
    assert not any(value.requires_grad for value in step.metrics.values())


def test_both_parts_of_cel_are_logged(batch, encoder, sampler):
    framework = CEL(encoder, A_CONT)
    step = framework(batch, sampler())
    total = step.metrics["match"] + 0.5 * step.metrics["uniformity"]
    torch.testing.assert_close(step.loss.detach(), total)


def test_invalid_options_are_refused():
    for options in ({"similarity": "a-prod"}, {"uniformity": -1.0}, {"t": 0.0}):
        with pytest.raises(IdemvoxError, match=rf"framework\.{next(iter(options))} "):
            CEL.Options(**options)
