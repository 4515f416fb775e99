"""The loss of MoCo, compared with a loop written from its formula."""

from __future__ import annotations

import math
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.memory import memory_nce
from idemvox.losses.pairwise import info_nce


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def slow(query: Tensor, key: Tensor, negatives: Tensor, temperature: float, out: Tensor) -> list[float]:
    """Eq. 1 of He et al. (2020), term by term."""
    rows = []
    for i in range(len(query)):
        right = math.exp(cosine(query[i], key[i]) / temperature)
        wrong = [
            math.exp(cosine(query[i], negatives[j]) / temperature)
            for j in range(len(negatives))
            if not out[i, j]
        ]
        rows.append(-math.log(right / (right + sum(wrong))))
    return rows


@pytest.fixture
def tensors() -> tuple[Tensor, ...]:
    return tuple(torch.randn(n, 6, dtype=torch.float64) for n in (5, 5, 9))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("some", [False, True])
def test_equals_the_formula(tensors, temperature, some):
    out = (torch.rand(5, 9) < 0.4) & some
    expected = slow(*tensors, temperature, out)
    rows = memory_nce(*tensors, temperature, out if some else None, reduction="none")
    assert rows.tolist() == pytest.approx(expected, rel=1e-9)
    assert float(memory_nce(*tensors, temperature, out)) == pytest.approx(mean(expected), rel=1e-9)


def test_with_the_batch_as_memory_it_equals_the_one_sided_loss(tensors):
    query, key, _ = tensors
    itself = torch.eye(5, dtype=torch.bool)
    torch.testing.assert_close(memory_nce(query, key, key, 0.2, itself), info_nce(query, key, 0.2))


def test_an_empty_memory_gives_zero_loss_and_gradient(tensors):
    query, key, negatives = tensors
    query.requires_grad_()
    loss = memory_nce(query, key, negatives, leave_out=torch.ones(5, 9, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and not query.grad.any()


def test_gradient(tensors):
    query, key, negatives = (x.requires_grad_() for x in tensors)
    assert torch.autograd.gradcheck(lambda q, k, n: memory_nce(q, k, n, 0.3), (query, key, negatives))


def test_autocast_changes_nothing(tensors):
    single = [x.float() for x in tensors]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = memory_nce(*single)
    assert torch.equal(inside, memory_nce(*single))
