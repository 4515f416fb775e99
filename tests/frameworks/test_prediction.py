"""SimSiam, SSReg and BYOL: who predicts what, and who gets a gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from idemvox.batch import Batch
from idemvox.errors import RecipeError
from idemvox.frameworks.byol import BYOL
from idemvox.frameworks.simsiam import SimSiam

SMALL = {"hidden": 6, "outputs": 3}


@pytest.fixture
def batch() -> Batch:
    views = {n: torch.randn(5, 1, 10) for n in ("anchor", "positive")}
    return Batch(torch.tensor([3, 1, 4, 8, 5]), views)


def encoded(framework: torch.nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    return tuple(framework.encoder(batch.views[n][:, 0]) for n in ("anchor", "positive"))


def unlike(a: Tensor, b: Tensor) -> Tensor:
    return -cosine_similarity(a, b, dim=1).mean()


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_simsiam_predicts_each_crop_from_the_other(batch, encoder, sampler, weight):
    framework = SimSiam(encoder, SimSiam.Options(weight, predictor=4, **SMALL))
    other = torch.randn(5, 3)
    h1, h2 = encoded(framework, batch)
    z1, z2 = framework.projector(h1), framework.projector(h2)
    p1, p2 = framework.predictor(z1), framework.predictor(z2)
    plain = (unlike(p1, z2) + unlike(p2, z1)) / 2 + weight * unlike(h1, h2)
    assert torch.allclose(framework(batch, sampler()).loss, plain, atol=1e-6)
    swapped = (unlike(p1, other) + unlike(p2, z1)) / 2 + weight * unlike(h1, h2)
    step = framework(batch, sampler(lambda ids, targets: other))
    assert torch.allclose(step.loss, swapped, atol=1e-6)
    assert torch.allclose(framework.target(batch), z2) and framework.embedding_dim == 3
    assert ("likeness" in step.metrics) == (weight > 0) and 0 < step.metrics["spread"] < 1.5


def test_simsiams_targets_get_no_gradient(batch, encoder, sampler):
    """With a predictor that always gives zero, the projector gets no gradient."""
    framework = SimSiam(encoder, SimSiam.Options(predictor=4, **SMALL))
    torch.nn.init.zeros_(framework.predictor[-1].weight)
    framework(batch, sampler()).loss.backward()
    assert framework.predictor[-1].bias.grad.any()
    assert not any(p.grad.any() for p in framework.projector.parameters())


def test_byol_predicts_its_teacher(batch, encoder, sampler):
    framework = BYOL(encoder, BYOL.Options(momentum=0.5, **SMALL))
    with torch.no_grad():
        framework.encoder.linear.weight += torch.randn(4, 10)
    other = torch.randn(5, 3)
    p1, p2 = (framework.predictor(framework.projector(h)) for h in encoded(framework, batch))
    t1, t2 = (
        framework.teacher_projector(framework.teacher(batch.views[n][:, 0])) for n in ("anchor", "positive")
    )

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (normalize(a, dim=1) - normalize(b, dim=1)).square().sum(1).mean()  # eq. 2

    assert torch.equal(framework.target(batch), t2)
    step = framework(batch, sampler())
    assert torch.allclose(step.loss, distance(p1, t2) + distance(p2, t1), atol=1e-5)
    swapped = framework(batch, sampler(lambda ids, targets: other)).loss
    assert torch.allclose(swapped, distance(p1, other) + distance(p2, t1), atol=1e-5)
    step.loss.backward()
    assert framework.encoder.linear.weight.grad.any() and framework.projector[0].weight.grad.any()
    assert all(p.grad is None for p in framework.teacher.parameters())


def test_byols_teacher_follows_ever_more_slowly(encoder):
    framework = BYOL(encoder, BYOL.Options(momentum=0.5, **SMALL))
    pairs = [(framework.teacher, framework.encoder), (framework.teacher_projector, framework.projector)]
    for progress, momentum in ((0.0, 0.5), (0.5, 0.75), (1.0, 1.0)):
        for teacher, student in pairs:
            with torch.no_grad():
                for p in (*teacher.parameters(), *student.parameters()):
                    p.fill_(0)
                for p in student.parameters():
                    p.fill_(1)
        framework.after_step(progress)
        for teacher, _ in pairs:
            assert all(torch.allclose(p, torch.tensor(1 - momentum)) for p in teacher.parameters())


def test_another_encoder_is_copied_to_both_sides_of_byol(encoder):
    framework = BYOL(encoder, BYOL.Options(**SMALL))
    framework.begin_with({k: torch.full_like(v, 0.5) for k, v in encoder.state_dict().items()})
    assert all((p == 0.5).all() for side in (encoder, framework.teacher) for p in side.parameters())


def test_impossible_options_are_refused():
    with pytest.raises(RecipeError, match="simsiam regularisation"):
        SimSiam.Options(regularisation=-1)
    with pytest.raises(RecipeError, match="byol momentum"):
        BYOL.Options(momentum=2)
