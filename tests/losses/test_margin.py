"""Classification losses, compared with loops written from the formulas."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from idemvox.losses.margin import aam_softmax, adacos, adacos_start, cosface


def angle(e: Tensor, w: Tensor) -> float:
    return math.acos(max(-1.0, min(1.0, float(e @ w) / math.sqrt(float(e @ e) * float(w @ w)))))


def cross_entropy(logits: list[float], y: int) -> float:
    highest = max(logits)
    return highest + math.log(sum(math.exp(v - highest) for v in logits)) - logits[y]


def arc(theta: float, margin: float) -> float:
    """ArcFace's logit of the right class, from its cosine."""
    if theta < math.pi - margin:
        return math.cos(theta + margin)
    return math.cos(theta) - margin * math.sin(margin)


def slow(
    embedding: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: float,
    margin: float,
    right: Callable[[float, float], float] = arc,
) -> list[float]:
    """The loss of each row."""
    rows = []
    for e, y in zip(embedding, labels.tolist(), strict=True):
        angles = [angle(e, w) for w in weight]
        cosines = [right(theta, margin) if j == y else math.cos(theta) for j, theta in enumerate(angles)]
        rows.append(cross_entropy([scale * c for c in cosines], y))
    return rows


def slow_scale(embedding: Tensor, weight: Tensor, labels: Tensor, scale: float) -> float:
    """AdaCos's next scale."""
    total, rights = 0.0, []
    for e, y in zip(embedding, labels.tolist(), strict=True):
        for j, w in enumerate(weight):
            if j == y:
                rights.append(angle(e, w))
            else:
                total += math.exp(scale * math.cos(angle(e, w)))
    return math.log(total / len(labels)) / math.cos(min(math.pi / 4, statistics.median_low(rights)))


def some(batch: int = 6, classes: int = 4, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embedding = 2 * torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    weight = 3 * torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    return embedding, weight, torch.randint(classes, (batch,), generator=generator)


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.2), (10.0, 0.5), (1.0, 0.0)])
def test_equals_the_formula(scale, margin):
    embedding, weight, labels = some()
    expected = slow(embedding, weight, labels, scale, margin)
    rows = aam_softmax(embedding, weight, labels, scale, margin, reduction="none")
    assert rows.tolist() == pytest.approx(expected, abs=1e-10)
    found = float(aam_softmax(embedding, weight, labels, scale, margin))
    assert found == pytest.approx(statistics.mean(expected), abs=1e-10)


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.2), (10.0, 0.5), (1.0, 0.0)])
def test_cosface_equals_the_formula(scale, margin):
    expected = slow(*some(), scale, margin, lambda theta, m: math.cos(theta) - m)
    rows = cosface(*some(), scale, margin, reduction="none")
    assert rows.tolist() == pytest.approx(expected, abs=1e-10)
    assert float(cosface(*some(), scale, margin)) == pytest.approx(statistics.mean(expected), abs=1e-10)


@pytest.mark.parametrize("loss", [aam_softmax, cosface])
def test_the_defaults_are_the_papers(loss):
    assert loss(*some()) == loss(*some(), scale=30.0, margin=0.2)


@pytest.mark.parametrize("batch", [1, 6, 7])
@pytest.mark.parametrize("near", [False, True])  # the median angle beyond 45 degrees, or within
def test_adacos_equals_the_formula(batch, near):
    embedding, weight, labels = some(batch, classes=40)
    if near:
        embedding = weight[labels] + 0.1 * embedding
    before = torch.tensor(5.0, dtype=torch.float64)
    loss, scale = adacos(embedding, weight, labels, before)
    expected = slow_scale(embedding, weight, labels, 5.0)
    assert float(scale) == pytest.approx(expected, abs=1e-10) and expected > 1
    losses = slow(embedding, weight, labels, expected, 0.0)
    assert float(loss) == pytest.approx(statistics.mean(losses), abs=1e-10)
    rows, same = adacos(embedding, weight, labels, before, reduction="none")
    assert rows.tolist() == pytest.approx(losses, abs=1e-10) and same == scale


def test_only_the_scale_of_adacos_has_no_gradient():
    embedding, weight, labels = some(classes=40)
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    loss, later = adacos(embedding.requires_grad_(), weight.requires_grad_(), labels, scale)
    loss.backward()
    assert scale.grad is None and not later.requires_grad
    plain = cosface(embedding, weight, labels, float(later), 0.0)
    expected = torch.autograd.grad(plain, (embedding, weight))
    torch.testing.assert_close((embedding.grad, weight.grad), expected)
    rows, _ = adacos(embedding, weight, labels, scale, "none")
    torch.testing.assert_close(torch.autograd.grad(rows.mean(), (embedding, weight)), expected)


def test_the_scale_of_adacos_stays_positive_with_few_classes():
    """One wrong class, opposite to the embeddings: log(B_avg) is -5."""
    weight, labels = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(3, dtype=torch.int64)
    assert adacos(weight[labels], weight, labels, torch.tensor(5.0))[1] == 1.0


@pytest.mark.parametrize("classes", [5, 1211])
def test_the_initial_scale_of_adacos(classes):
    """With 45 degrees to the right class and 90 to all others, the scale keeps its initial value."""
    start = torch.tensor(adacos_start(classes), dtype=torch.float64)
    weight = torch.eye(classes + 1, dtype=torch.float64)[:classes]
    embedding = weight[:5] + torch.eye(classes + 1, dtype=torch.float64)[-1]
    _, scale = adacos(embedding, weight, torch.arange(len(embedding)), start)
    assert float(scale) == pytest.approx(float(start))


def towards(angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """One embedding at ``angle`` from the vector of its class, and at right angles to the others."""
    weight = torch.eye(4, dtype=torch.float64)[:3]
    embedding = torch.tensor([[math.cos(angle), 0.0, 0.0, math.sin(angle)]], dtype=torch.float64)
    return embedding, weight, torch.tensor([0])


@pytest.mark.parametrize("margin", [0.2, 0.5])
def test_angles_beyond_pi_minus_the_margin(margin):
    angles = torch.linspace(math.pi - margin - 0.3, math.pi - 1e-4, 40).tolist()
    found = [float(aam_softmax(*towards(a), 30.0, margin)) for a in angles]
    assert found == pytest.approx([slow(*towards(a), 30.0, margin)[0] for a in angles], abs=1e-8)
    # the loss keeps rising where cos(theta + margin) would turn; where both pieces meet it may jump a little
    beyond = [value for angle, value in zip(angles, found, strict=True) if angle > math.pi - margin]
    assert len(beyond) > 10 and all(a < b for a, b in pairwise(beyond))


def test_without_a_margin_it_is_a_softmax_of_cosines():
    embedding, weight, labels = some()
    normal = torch.nn.functional.normalize
    plain = torch.nn.functional.cross_entropy(30 * normal(embedding) @ normal(weight).T, labels)
    assert float(aam_softmax(embedding, weight, labels, 30.0, 0.0)) == pytest.approx(float(plain), abs=1e-12)


@pytest.mark.parametrize("loss", [aam_softmax, cosface])
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient(reduction, beyond, loss):
    embedding, weight, labels = some(4, 3, 4)
    if beyond:
        embedding = -weight[labels] + 0.05 * embedding
        cosine = torch.nn.functional.cosine_similarity(embedding, weight[labels])
        assert (cosine < math.cos(math.pi - 0.2)).any()
    assert torch.autograd.gradcheck(
        lambda e, w: loss(e, w, labels, 5.0, 0.2, reduction),
        (embedding.requires_grad_(), weight.requires_grad_()),
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_gradient_is_finite_exactly_at_a_class_vector(sign):
    weight = torch.eye(3)
    embedding = (sign * weight[:2]).requires_grad_()
    aam_softmax(embedding, weight, torch.tensor([0, 1])).backward()
    assert torch.isfinite(embedding.grad).all()


LOSSES = {
    "arcface": aam_softmax,
    "cosface": cosface,
    "adacos": lambda *args: adacos(*args, torch.tensor(8.0))[0],
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_autocast_leaves_the_logits_in_single_precision(loss):
    embedding, weight, labels = some()
    embedding, weight = embedding.float(), weight.float()
    plain = loss(embedding, weight, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(embedding, weight, labels) == plain
        half = loss(embedding.bfloat16(), weight, labels)
    assert half == loss(embedding.bfloat16().float(), weight, labels)
