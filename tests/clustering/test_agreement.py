"""The adjusted Rand index is scikit-learn's."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from idemvox.clustering.agreement import adjusted_rand


@pytest.mark.parametrize(("n", "k"), [(2, 1), (30, 3), (400, 90), (50, 50)])
def test_it_equals_scikit_learns(n, k):
    generator = torch.Generator().manual_seed(n)
    a, b = torch.randint(0, k, (2, n), generator=generator)
    b[: n // 2] = a[: n // 2]
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a.numpy(), b.numpy()), abs=1e-12)


def test_names_do_not_matter_and_a_single_item_agrees():
    a = torch.tensor([0, 0, 1, 2, 2, 2], dtype=torch.int32)
    assert adjusted_rand(a, 5 - a) == 1 and adjusted_rand(a[:1], a[:1]) == 1
    assert adjusted_rand(torch.arange(6), torch.arange(6)) == 1
    assert adjusted_rand(torch.arange(6), torch.zeros(6, dtype=torch.int64)) == 0
