"""Generalised contrastive loss, compared with a loop from its formula and with the loss it generalises."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.affinity import affinities, generalised_contrastive
from idemvox.losses.pairwise import nt_xent


def slow(embedding: Tensor, affinity: Tensor, t: float, out: Tensor | None = None) -> list[float]:
    units = [e / e.norm() for e in embedding]
    rows, size = [], len(units)
    for i in range(size):
        others = [j for j in range(size) if j != i]
        exp = {j: math.exp(float(units[i] @ units[j]) / t) for j in others}
        under = sum(v for j, v in exp.items() if out is None or not out[i, j] or affinity[i, j] > 0)
        mass = sum(float(affinity[i, j]) for j in others)
        rows.append(-sum(float(affinity[i, j]) / mass * math.log(exp[j] / under) for j in others))
    return rows


def some(size: int = 6, dim: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    embedding = 2 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    weights = torch.rand(size, size, generator=generator, dtype=torch.float64)
    return embedding, weights * (weights > 0.3)


@pytest.mark.parametrize("t", [0.1, 1.0])
def test_equals_the_formula(t):
    embedding, affinity = some()
    out = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) < 0.6
    assert (out & (affinity == 0)).any() and (out & (affinity > 0)).any()
    for leave_out in (None, out):
        expected = slow(embedding, affinity, t, leave_out)
        found = float(generalised_contrastive(embedding, affinity, t, leave_out))
        assert found == pytest.approx(mean(expected), abs=1e-10)
        rows = generalised_contrastive(embedding, affinity, t, leave_out, reduction="none")
        assert rows.tolist() == pytest.approx(expected, abs=1e-10)


def test_without_labels_it_equals_nt_xent():
    query, target = some(10)[0].chunk(2)
    related = torch.rand(5, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    pairs = affinities(torch.arange(5))
    both = torch.cat([query, target])
    for out in (None, related.fill_diagonal_(False)):
        found = generalised_contrastive(both, pairs, 0.2, None if out is None else out.repeat(2, 2))
        assert float(found) == pytest.approx(float(nt_xent(query, target, 0.2, out)), abs=1e-12)


def test_affinities_of_labels_and_views():
    ids, labels = torch.tensor([7, 3, 5, 9]), torch.tensor([2, -1, 2, -1])
    found = affinities(ids, labels)
    for i in range(8):
        for j in range(8):
            a, b = i % 4, j % 4
            expected = i != j and (a == b or (labels[a] == labels[b] and labels[a] >= 0))
            assert bool(found[i, j]) == bool(expected)
    assert torch.equal(affinities(ids), affinities(ids, torch.full((4,), -1)))


def test_gradient_and_autocast():
    embedding, affinity = some(5, 3)
    for reduction in ("mean", "none"):
        assert torch.autograd.gradcheck(
            partial(generalised_contrastive, affinity=affinity, temperature=0.5, reduction=reduction),
            embedding.requires_grad_(),
        )
    single = embedding.detach().float()
    with torch.autocast("cpu", torch.bfloat16):
        half = generalised_contrastive(single.bfloat16(), affinity)
    assert half == generalised_contrastive(single.bfloat16().float(), affinity)
