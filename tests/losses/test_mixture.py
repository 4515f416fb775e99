"""The loss of mixtures, compared with a loop."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from torch import Tensor

from idemvox.losses.mixture import mixed_nce
from idemvox.losses.pairwise import info_nce


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)


PARTNER = torch.tensor([3, 0, 2, 5, 1, 4])
SHARE = torch.tensor([0.9, 0.5, 0.7, 1.0, 0.6, 0.8], dtype=torch.float64)


@pytest.mark.parametrize("some", [False, True])
def test_equals_the_formula(pair, some):
    query, target = pair
    out = (torch.rand(6, 6) < 0.5) & some
    expected = []
    for i, j in enumerate(PARTNER.tolist()):
        terms = {
            k: math.exp(cosine(query[i], target[k]) / 0.3) for k in range(6) if k in (i, j) or not out[i, k]
        }
        total, s = sum(terms.values()), float(SHARE[i])
        expected.append(-s * math.log(terms[i] / total) - (1 - s) * math.log(terms[j] / total))
    rows = mixed_nce(query, target, PARTNER, SHARE, 0.3, out if some else None, "none")
    assert rows.tolist() == pytest.approx(expected)
    assert float(mixed_nce(query, target, PARTNER, SHARE, 0.3, out)) == pytest.approx(fmean(expected))


def test_without_mixing_it_equals_the_one_sided_loss(pair):
    whole = torch.ones(6, dtype=torch.float64)
    torch.testing.assert_close(mixed_nce(*pair, PARTNER, whole, 0.3), info_nce(*pair, 0.3))


def test_gradient(pair):
    query, target = (x.requires_grad_() for x in pair)
    assert torch.autograd.gradcheck(lambda q, z: mixed_nce(q, z, PARTNER, SHARE, 0.3), (query, target))


def test_autocast_changes_nothing(pair):
    arguments = (*(x.float() for x in pair), PARTNER, SHARE.float())
    outside = mixed_nce(*arguments)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mixed_nce(*arguments), outside)
