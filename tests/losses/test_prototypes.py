"""Losses with prototypes, compared with loops."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.losses.prototypes import (
    concentration,
    nearest_prototype,
    proto_nce,
    sinkhorn,
    swapped_prediction,
)


def unit(n: int, d: int = 4) -> Tensor:
    return normalize(torch.randn(n, d, dtype=torch.float64), dim=1)


def test_concentration_equals_the_formula():
    assignment = torch.tensor([0] * 6 + [1] * 4 + [2] * 5 + [3] + [4] * 4 + [6] * 3)
    x, centroids = unit(len(assignment)), unit(7)
    raw = {}
    for c in set(assignment.tolist()):
        members = [i for i in range(len(x)) if assignment[i] == c]
        distance = sum(float((x[i] - centroids[c]).norm()) for i in members)
        raw[c] = distance / (len(members) * math.log(len(members) + 10))
    raw[3] = max(value for c, value in raw.items() if c != 3)  # one member gives no spread
    values = torch.tensor(list(raw.values()), dtype=torch.float64)
    low, high = (float(values.quantile(q)) for q in (0.1, 0.9))
    clipped = {c: min(max(value, low), high) for c, value in raw.items()}
    mean = fmean(clipped.values())
    expected = [0.2 * clipped[c] / mean if c in clipped else 0.0 for c in range(7)]
    assert concentration(x, centroids, assignment, mean=0.2).tolist() == pytest.approx(expected)
    assert expected[5] == 0 and min(expected[:5]) < max(expected[:5])


def test_with_single_members_all_concentrations_are_equal():
    x = unit(3)
    assert concentration(x, torch.cat([x, unit(1)]), torch.arange(3)).tolist() == pytest.approx(
        [0.07, 0.07, 0.07, 0]
    )


def test_proto_nce_equals_the_formula_without_empty_clusters():
    query, centroids = 3 * unit(6), unit(5)
    phi, right = torch.tensor([0.1, 0.0, 0.5, 0.2, 0.3]).double(), torch.tensor([0, 2, 3, 4, 4, 0])
    expected = []
    for q, r in zip(query, right.tolist(), strict=True):
        terms = {
            j: math.exp(float(q @ centroids[j]) / float(q.norm()) / float(phi[j]))
            for j in range(5)
            if phi[j] > 0
        }
        expected.append(-math.log(terms[r] / sum(terms.values())))
    assert proto_nce(query, centroids, phi, right, "none").tolist() == pytest.approx(expected)
    assert float(proto_nce(query, centroids, phi, right)) == pytest.approx(fmean(expected))
    query.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: proto_nce(q, centroids, phi, right), query)


def test_the_nearest_prototype_is_never_an_empty_one():
    x, centroids, phi = unit(30), unit(6), torch.tensor([0.1, 0.0, 0.2, 0.3, 0.0, 0.1])
    for row, found in zip(x, nearest_prototype(x, centroids, phi).tolist(), strict=True):
        assert found == max((j for j in range(6) if phi[j] > 0), key=lambda j: float(row @ centroids[j]))


def test_sinkhorn_equals_the_loop():
    scores = unit(7) @ unit(3).T
    matrix = [[math.exp(s / 0.1) for s in row] for row in scores.tolist()]
    for _ in range(3):
        for k in range(3):
            total = sum(row[k] for row in matrix)
            for row in matrix:
                row[k] *= 7 / 3 / total
        matrix = [[value / sum(row) for value in row] for row in matrix]
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3), torch.tensor(matrix, dtype=torch.float64))


def test_masked_rows_change_nothing():
    scores, counted = unit(9) @ unit(3).T, torch.tensor([1, 1, 0, 1, 0, 1, 1, 0, 1]).bool()
    codes = sinkhorn(scores, 0.1, 3, counted)
    torch.testing.assert_close(codes[counted], sinkhorn(scores[counted], 0.1, 3))
    assert not codes[~counted].any()


def test_sinkhorn_converges_to_equal_shares():
    codes = sinkhorn(unit(12) @ unit(4).T, 0.5, 200)
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(1), torch.ones(12, dtype=torch.float64))


def test_swapped_prediction_equals_the_formula():
    scores, codes = torch.randn(5, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)
    codes = codes / codes.sum(1, keepdim=True)
    expected = []
    for row, code in zip(scores.tolist(), codes.tolist(), strict=True):
        total = sum(math.exp(s / 0.3) for s in row)
        expected.append(-sum(c * math.log(math.exp(s / 0.3) / total) for s, c in zip(row, code, strict=True)))
    assert swapped_prediction(scores, codes, 0.3, "none").tolist() == pytest.approx(expected)
    assert float(swapped_prediction(scores, codes, 0.3)) == pytest.approx(fmean(expected))
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: swapped_prediction(s, codes, 0.3), scores)


def test_autocast_changes_nothing():
    query, centroids = unit(6).float(), unit(5).float()
    phi, right = torch.full((5,), 0.1), torch.tensor([0, 2, 3, 4, 4, 0])

    scores, codes = query @ centroids.T, torch.full((6, 5), 0.2)

    def all_of_them() -> list[Tensor]:
        return [
            proto_nce(query, centroids, phi, right),
            nearest_prototype(query, centroids, phi),
            sinkhorn(scores),
            swapped_prediction(scores, codes),
        ]

    outside = all_of_them()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = all_of_them()
    assert all(torch.equal(a, b) for a, b in zip(outside, inside, strict=True))
