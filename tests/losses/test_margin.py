"""AAM-softmax against a loop written from the formula."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from idemvox.losses.margin import aam_softmax


def slow(embedding: Tensor, weight: Tensor, labels: Tensor, scale: float, margin: float) -> float:
    total = 0.0
    for e, y in zip(embedding, labels.tolist(), strict=True):
        logits = []
        for j, w in enumerate(weight):
            cosine = float(e @ w) / math.sqrt(float(e @ e) * float(w @ w))
            theta = math.acos(max(-1.0, min(1.0, cosine)))
            if j == y and theta < math.pi - margin:
                cosine = math.cos(theta + margin)
            elif j == y:
                cosine -= margin * math.sin(margin)
            logits.append(scale * cosine)
        highest = max(logits)
        total += highest + math.log(sum(math.exp(v - highest) for v in logits)) - logits[y]
    return total / len(labels)


def some(batch: int = 6, classes: int = 4, dim: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embedding = 2 * torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    weight = 3 * torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    return embedding, weight, torch.randint(classes, (batch,), generator=generator)


@pytest.mark.parametrize(("scale", "margin"), [(30.0, 0.2), (10.0, 0.5), (1.0, 0.0)])
def test_equals_the_formula(scale, margin):
    embedding, weight, labels = some()
    found = float(aam_softmax(embedding, weight, labels, scale, margin))
    assert found == pytest.approx(slow(embedding, weight, labels, scale, margin), abs=1e-10)


def test_the_defaults_are_the_papers():
    assert aam_softmax(*some()) == aam_softmax(*some(), scale=30.0, margin=0.2)


def towards(angle: float) -> tuple[Tensor, Tensor, Tensor]:
    """One embedding at ``angle`` from the vector of its class, and at right angles to the others."""
    weight = torch.eye(4, dtype=torch.float64)[:3]
    embedding = torch.tensor([[math.cos(angle), 0.0, 0.0, math.sin(angle)]], dtype=torch.float64)
    return embedding, weight, torch.tensor([0])


@pytest.mark.parametrize("margin", [0.2, 0.5])
def test_beyond_pi_less_margin(margin):
    angles = torch.linspace(math.pi - margin - 0.3, math.pi - 1e-4, 40).tolist()
    found = [float(aam_softmax(*towards(a), 30.0, margin)) for a in angles]
    assert found == pytest.approx([slow(*towards(a), 30.0, margin) for a in angles], abs=1e-8)
    # the loss goes on rising where cos(theta + margin) would turn; at the junction it may step a little
    beyond = [value for angle, value in zip(angles, found, strict=True) if angle > math.pi - margin]
    assert len(beyond) > 10 and all(a < b for a, b in pairwise(beyond))


def test_no_margin_is_a_softmax_of_cosines():
    embedding, weight, labels = some()
    normal = torch.nn.functional.normalize
    plain = torch.nn.functional.cross_entropy(30 * normal(embedding) @ normal(weight).T, labels)
    assert float(aam_softmax(embedding, weight, labels, 30.0, 0.0)) == pytest.approx(float(plain), abs=1e-12)


@pytest.mark.parametrize("beyond", [False, True])
def test_gradient(beyond):
    embedding, weight, labels = some(4, 3, 4)
    if beyond:
        embedding = -weight[labels] + 0.05 * embedding
        cosine = torch.nn.functional.cosine_similarity(embedding, weight[labels])
        assert (cosine < math.cos(math.pi - 0.2)).any()
    assert torch.autograd.gradcheck(
        lambda e, w: aam_softmax(e, w, labels, 5.0, 0.2),
        (embedding.requires_grad_(), weight.requires_grad_()),
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_on_top_of_a_class_vector_the_gradient_is_finite(sign):
    weight = torch.eye(3)
    embedding = (sign * weight[:2]).requires_grad_()
    aam_softmax(embedding, weight, torch.tensor([0, 1])).backward()
    assert torch.isfinite(embedding.grad).all()


def test_autocast_leaves_the_logits_in_single_precision():
    embedding, weight, labels = some()
    embedding, weight = embedding.float(), weight.float()
    plain = aam_softmax(embedding, weight, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert aam_softmax(embedding, weight, labels) == plain
        half = aam_softmax(embedding.bfloat16(), weight, labels)
    assert half == aam_softmax(embedding.bfloat16().float(), weight, labels)
