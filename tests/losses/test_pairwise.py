"""Contrastive losses, compared with loops written from the formulas."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.memory import memory_nce
from idemvox.losses.pairwise import info_nce, nt_xent


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def slow_info_nce(
    query: Tensor, target: Tensor, temperature: float, out: Tensor | None = None
) -> list[float]:
    """Eq. 1 of the SSPS paper for each row, term by term, without the excluded pairs."""
    rows = []
    for i in range(len(query)):
        terms = {
            j: math.exp(cosine(query[i], target[j]) / temperature)
            for j in range(len(target))
            if j == i or out is None or not out[i, j]
        }
        rows.append(-math.log(terms[i] / sum(terms.values())))
    return rows


def slow_nt_xent(query: Tensor, target: Tensor, temperature: float, out: Tensor | None = None) -> list[float]:
    """Each of the 2B embeddings is an anchor; candidates are all others that are not excluded."""
    both, batch = [*query, *target], len(query)
    rows = [0.0] * batch
    for i in range(2 * batch):
        terms = {
            j: math.exp(cosine(both[i], both[j]) / temperature)
            for j in range(2 * batch)
            if j == (i + batch) % (2 * batch) or (j != i and (out is None or not out[i % batch, j % batch]))
        }
        rows[i % batch] -= math.log(terms[(i + batch) % (2 * batch)] / sum(terms.values())) / 2
    return rows


ORACLES = [(info_nce, slow_info_nce), (nt_xent, slow_nt_xent)]
LOSSES = [info_nce, nt_xent]


def pair(batch: int = 5, dim: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return tuple(3 * torch.randn(2, batch, dim, generator=generator, dtype=dtype))


@pytest.mark.parametrize(("fast", "slow"), ORACLES)
@pytest.mark.parametrize("temperature", [0.03, 0.5, 2.0])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_equals_the_formula(fast, slow, temperature, batch):
    query, target = pair(batch)
    rows = slow(query, target, temperature)
    assert fast(query, target, temperature, reduction="none").tolist() == pytest.approx(rows, abs=1e-12)
    assert float(fast(query, target, temperature)) == pytest.approx(mean(rows), abs=1e-12)


def pairs(batch: int, share: float = 0.4) -> Tensor:
    """Random pairs to exclude, not symmetric, and also on the diagonal."""
    return torch.rand(batch, batch, generator=torch.Generator().manual_seed(batch)) < share


@pytest.mark.parametrize(("fast", "slow"), ORACLES)
@pytest.mark.parametrize("temperature", [0.03, 0.5])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_with_exclusions_it_equals_the_formula(fast, slow, temperature, batch):
    query, target = pair(batch)
    for out in (pairs(batch), pairs(batch, 0.0), torch.ones(batch, batch, dtype=torch.bool)):
        rows = slow(query, target, temperature, out)
        assert fast(query, target, temperature, out, "none").tolist() == pytest.approx(rows, abs=1e-12)
        assert float(fast(query, target, temperature, out)) == pytest.approx(mean(rows), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_with_all_negatives_excluded_the_loss_is_zero(loss):
    """Setting the similarity to 0 instead would add exp(0)."""
    query, target = pair()
    query.requires_grad_()
    value = loss(query, target, 0.5, torch.ones(5, 5, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0.0 and torch.equal(query.grad, torch.zeros_like(query))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_with_exclusions(loss):
    query, target = (x.requires_grad_() for x in pair(4, 3))
    assert torch.autograd.gradcheck(lambda q, t: loss(q, t, 0.3, pairs(4)), (query, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_without_exclusions_it_equals_the_plain_loss(loss):
    query, target = pair()
    assert loss(query, target, 0.1, torch.zeros(5, 5, dtype=torch.bool)) == loss(query, target, 0.1)


def test_the_default_temperature_is_the_papers():
    query, target = pair()
    for loss in LOSSES:
        assert loss(query, target) == loss(query, target, 0.03)


def test_a_single_pair_has_no_negatives():
    """A self-similarity left in, even as a 0, would be a negative here."""
    query, target = pair(1)
    assert float(nt_xent(query, target, 0.5)) == 0.0
    assert float(info_nce(query, target, 0.5)) == 0.0


@pytest.mark.parametrize("loss", LOSSES)
def test_reordering_the_batch_reorders_the_gradient(loss):
    query, target = (x.requires_grad_() for x in pair(6))
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    value = loss(query, target, 0.1)
    gradients = torch.autograd.grad(value, (query, target))
    shuffled = loss(query[order], target[order], 0.1)
    assert float(shuffled.detach()) == pytest.approx(float(value.detach()), abs=1e-12)
    for here, there in zip(gradients, torch.autograd.grad(shuffled, (query, target)), strict=True):
        torch.testing.assert_close(here, there)
    one_sided = loss(query[order], target, 0.1)  # only the pairing matters, not the order of rows
    assert abs(float(one_sided.detach()) - float(value.detach())) > 1e-3


def test_symmetric_in_the_two_views():
    query, target = pair()
    assert float(nt_xent(query, target, 0.1)) == pytest.approx(float(nt_xent(target, query, 0.1)), abs=1e-12)
    assert float(info_nce(query, target, 0.1)) != pytest.approx(float(info_nce(target, query, 0.1)), abs=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_norm_does_not_matter(loss):
    query, target = pair()
    scaled = loss(query * torch.tensor([[0.1], [9.0], [3.0], [1.0], [2.0]]), 7 * target, 0.1)
    assert float(scaled) == pytest.approx(float(loss(query, target, 0.1)), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(loss):
    query, target = (x.requires_grad_() for x in pair(4, 3))
    for reduction in ("mean", "none"):
        assert torch.autograd.gradcheck(partial(loss, temperature=0.3, reduction=reduction), (query, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_leaves_the_logits_in_single_precision(loss):
    query, target = pair(8, 16, torch.float32)
    plain = loss(query, target, 0.03)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(query, target, 0.03) == plain
        half = loss(query.bfloat16(), target.bfloat16(), 0.03)
    assert half.dtype == torch.float32
    assert half == loss(query.bfloat16().float(), target.bfloat16().float(), 0.03)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_detached_target_gets_no_gradient_and_the_query_does(loss):
    query, target = pair()
    query.requires_grad_()
    loss(query, target, 0.1).backward()
    assert query.grad is not None and query.grad.abs().sum() > 0 and target.grad is None


def harder(cosine: float, margin: float, angular: bool) -> float:
    """The cosine of a positive with a margin; past pi it keeps falling."""
    if not angular:
        return cosine - margin
    angle = math.acos(cosine) + margin
    return math.cos(angle) if angle < math.pi else cosine - margin * math.sin(margin)


@pytest.mark.parametrize("angular", [False, True])
@pytest.mark.parametrize("margin", [0.1, 0.5, 2.5])
def test_the_margin_is_applied_to_each_positive(angular, margin):
    query, target = pair()
    negatives, t = torch.randn(3, 4, dtype=torch.float64), 0.4
    sided, memory, both = [], [], []
    for i in range(5):
        right = math.exp(harder(cosine(query[i], target[i]), margin, angular) / t)
        others = sum(math.exp(cosine(query[i], target[j]) / t) for j in range(5) if j != i)
        sided.append(-math.log(right / (right + others)))
        others = sum(math.exp(cosine(query[i], n) / t) for n in negatives)
        memory.append(-math.log(right / (right + others)))
        rows = []
        for anchor in (query[i], target[i]):
            others = sum(
                math.exp(cosine(anchor, x) / t) for j in range(5) if j != i for x in (query[j], target[j])
            )
            rows.append(-math.log(right / (right + others)))
        both.append(mean(rows))
    options = {"temperature": t, "margin": margin, "angular": angular, "reduction": "none"}
    assert info_nce(query, target, **options).tolist() == pytest.approx(sided)
    assert nt_xent(query, target, **options).tolist() == pytest.approx(both)
    assert memory_nce(query, target, negatives, **options).tolist() == pytest.approx(memory)


@pytest.mark.parametrize("angular", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_with_a_margin(loss, angular):
    query, target = (x.requires_grad_() for x in pair())
    options = {"temperature": 0.5, "margin": 0.3, "angular": angular}
    assert torch.autograd.gradcheck(lambda q, z: loss(q, z, **options), (query, target))
