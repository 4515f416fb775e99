"""The nearest direction: low precision makes it faster and must not change the result."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from idemvox.clustering import nearest as module
from idemvox.clustering.nearest import nearest

TYPES = [torch.float32, torch.bfloat16, torch.float16]


def cloud(n: int, dim: int = 24, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest product and where it is, in fp64."""
    best = (x.double() @ centroids.double().T).max(dim=1)
    return best.values, best.indices


def check(x: Tensor, centroids: Tensor, dtype: torch.dtype) -> Tensor:
    """Compare with fp64; a tie in fp32 may go either way."""
    value, index = nearest(x, centroids, dtype)
    expected, _ = by_hand(x, centroids)
    assert value.dtype == torch.float32 and index.dtype == torch.int64
    torch.testing.assert_close(value.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close((x * centroids[index]).sum(1), value, atol=1e-6, rtol=0)
    return index


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("k", [1, 2, 31, 32, 33, 300])
def test_any_number_of_centroids(dtype, k):
    x, centroids = normalize(cloud(257), dim=1), normalize(cloud(k, seed=1), dim=1)
    assert torch.equal(check(x, centroids, dtype), by_hand(x, centroids)[1])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4])
def test_centroids_that_low_precision_cannot_distinguish(dtype, apart):
    """Each centroid has a twin this far away; bf16 has 8 bits, so most twins round to the same numbers."""
    base = normalize(cloud(60), dim=1)
    centroids = normalize(torch.cat([base, base + apart * cloud(60, seed=1)]), dim=1)
    x = normalize(base.repeat(8, 1) + 0.1 * cloud(480, seed=2), dim=1)
    index = check(x, centroids, dtype)
    top = (x.double() @ centroids.double().T).topk(2).values
    clear = top[:, 0] - top[:, 1] > 1e-6
    assert clear.float().mean() > 0.9
    assert torch.equal(index[clear], by_hand(x, centroids)[1][clear])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shared", [1.0, 10.0, 100.0])
def test_directions_with_a_large_common_part(dtype, shared):
    """As from a barely trained encoder: cosines of 0.5, 0.99 and 0.9999 between any two."""
    x = normalize(cloud(500) / 24**0.5 + shared * torch.eye(24)[0], dim=1)
    centroids = normalize(cloud(200, seed=1) / 24**0.5 + shared * torch.eye(24)[0], dim=1)
    check(x, centroids, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_all_centroids_may_be_on_the_opposite_side(dtype):
    """Every product is negative, so a missing centroid would win with 0."""
    centroids = normalize(torch.eye(24)[0] + 0.1 * cloud(33), dim=1)
    x = normalize(-torch.eye(24)[:1] + 0.1 * cloud(50, seed=1), dim=1)
    assert (check(x, centroids, dtype) < 33).all()
    assert (nearest(x, centroids, dtype)[0] < 0).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("copies", [2, 100])
def test_the_first_of_equal_centroids_is_taken(dtype, copies):
    """Few are compared pair by pair, a hundred by a product."""
    base = normalize(cloud(7), dim=1)
    index = check(normalize(base + 0.01 * cloud(7, seed=1), dim=1), base.repeat(copies, 1), dtype)
    assert torch.equal(index, torch.arange(7))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_of_zeros_has_product_zero(dtype):
    x = normalize(cloud(20), dim=1)
    x[[3, 8]] = 0
    value, index = nearest(x, normalize(cloud(90, seed=1), dim=1), dtype)
    assert value[[3, 8]].tolist() == [0, 0] and (index >= 0).all() and (index < 90).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("block", [1, 100, 1000, 1 << 22])
def test_block_sizes_change_nothing(dtype, block, monkeypatch):
    x, centroids = normalize(cloud(100), dim=1), normalize(cloud(40, seed=1), dim=1)
    whole = nearest(x, centroids, dtype)
    monkeypatch.setattr(module, "_BLOCK", block)
    parts = nearest(x, centroids, dtype)
    assert torch.equal(parts[1], whole[1])
    torch.testing.assert_close(parts[0], whole[0], atol=1e-6, rtol=0)


def test_there_may_be_no_rows():
    value, index = nearest(torch.zeros(0, 3), torch.eye(3))
    assert value.shape == index.shape == (0,)
