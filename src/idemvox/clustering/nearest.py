"""Exact search for the nearest of many directions, with most of the work in low precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["nearest"]

_BLOCK, _GPU_BLOCK = 1 << 22, 1 << 28  # products held at once: as many as fit a CPU's cache, or 512 MiB
_PAIRS, _GPU_PAIRS = 256, 1 << 16  # pairs compared at once in fp32
_GROUP = 32  # centroids excluded together
_CROWD = 8  # with more groups left than this, a product in fp32 is faster than single pairs


def fastest_type(device: torch.device) -> torch.dtype:
    """Return the dtype with the fastest matrix products: fp16 on a GPU, bf16 on a CPU with tiles (AMX)."""
    if device.type == "cuda":
        return torch.float16
    tiles = device.type == "cpu" and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return torch.bfloat16 if tiles else torch.float32


@contextmanager
def _summed_in_fp32() -> Iterator[None]:
    """Stop cuBLAS from summing parts of a product in fp16, which it may by default."""
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_fp16_reduced_precision_reduction
    matmul.allow_fp16_reduced_precision_reduction = False
    try:
        yield
    finally:
        matmul.allow_fp16_reduced_precision_reduction = before


@torch.no_grad()
def nearest(x: Tensor, centroids: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Return each row's highest inner product with a centroid, and the first centroid that reaches it.

    A product in low precision excludes nearly all centroids, and the few left are compared in fp32. No
    centroid is excluded that could be the nearest: rounding the factors to a relative u changes an inner
    product by at most 2u times their norms (Cauchy-Schwarz), and rounding the product by u of itself; a
    centroid is excluded only if it is further behind than that. The mean of the centroids is subtracted
    first, which lowers all products of a row equally, so that embeddings with a common direction need no more
    precision than others. Rows that still have many centroids left are computed in fp32 entirely.

    Args:
        x: (N, D) of norm 1 or 0.
        centroids: (K, D) of norm 1.
        dtype: dtype of the first product; default: the fastest on the device.

    Returns:
        (N,) products in fp32, and (N,) indices.
    """
    dtype = dtype or fastest_type(x.device)
    centred = centroids - centroids.mean(dim=0)
    u = torch.finfo(dtype).eps / 2
    summing = x.shape[1] * torch.finfo(torch.float32).eps  # products are summed in fp32
    unsure = (4 * u + summing) * centred.norm(dim=1).max() + 1e-5  # and values too small for fp16
    centred = F.pad(centred, (0, 0, 0, -len(centred) % _GROUP)).to(
        dtype
    )  # whole groups; the mean is never nearest
    rows = max(1, (_BLOCK if x.device.type == "cpu" else _GPU_BLOCK) // len(centred))
    space = torch.empty(len(centred) * min(rows, len(x)), dtype=dtype, device=x.device)
    best = torch.empty(len(x), device=x.device)
    index = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for block, values, indices in zip(x.split(rows), best.split(rows), index.split(rows), strict=True):
        product = space[: len(centred) * len(block)].view(len(centred), len(block))
        with _summed_in_fp32():
            torch.mm(centred, block.to(dtype).T, out=product)
        _compare(block, centroids, product, unsure, values, indices)
    return best, index


def _compare(
    x: Tensor, centroids: Tensor, product: Tensor, unsure: Tensor, best: Tensor, index: Tensor
) -> None:
    """Fill ``best`` and ``index`` (B,) for the rows ``x`` (B, D), given rough products (K, B)."""
    groups = product.view(len(product) // _GROUP, _GROUP, len(x))
    peaks = groups.amax(dim=1).float()  # (K / _GROUP, B)
    top = peaks.amax(dim=0)
    floor = top - unsure - 2 * torch.finfo(product.dtype).eps * top.abs()
    near = peaks >= floor
    crowded = near.sum(dim=0) > _CROWD
    group, row = (near & ~crowded).nonzero(as_tuple=True)
    left, place = (groups[group, :, row].float() >= floor[row, None]).nonzero(as_tuple=True)
    row, which = row[left], (group[left] * _GROUP + place).clamp_max(len(centroids) - 1)
    size = _PAIRS if x.device.type == "cpu" else _GPU_PAIRS
    pairs = zip(row.split(size), which.split(size), strict=True)
    value = torch.cat(
        [torch.linalg.vecdot(x.index_select(0, r), centroids.index_select(0, w)) for r, w in pairs]
    )
    best.fill_(-torch.inf).scatter_reduce_(0, row, value, "amax")
    won = value == best[row]
    index.fill_(len(centroids)).scatter_reduce_(0, row[won], which[won], "amin")
    crowd = crowded.nonzero().flatten()
    if not len(crowd):
        return
    if product.dtype == torch.float32:
        index[crowd] = product[:, crowd].argmax(dim=0).clamp_max(len(centroids) - 1)
        best[crowd] = torch.linalg.vecdot(x[crowd], centroids[index[crowd]])
    else:
        best[crowd], index[crowd] = nearest(x[crowd], centroids, torch.float32)
