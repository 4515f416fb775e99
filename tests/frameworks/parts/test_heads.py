"""Heads: bottlenecks of unit norm, and prototypes whose direction alone matters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from idemvox.frameworks.parts.heads import Affine, DINOHead, Prototypes


def test_the_bottleneck_has_unit_norm_in_full_precision():
    head = DINOHead(12, 20, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = head(torch.randn(7, 12))
    assert found.shape == (7, 5) and found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(7))


def test_the_head_is_the_papers():
    sizes = [(m.in_features, m.out_features) for m in DINOHead(512) if isinstance(m, nn.Linear)]
    assert sizes == [(512, 2048), (2048, 2048), (2048, 256)]
    assert [type(m).__name__ for m in DINOHead(512)] == [
        *("Linear", "BatchNorm1d", "GELU") * 2,
        "Linear",
    ]


def test_only_the_directions_of_prototypes_matter():
    prototypes = Prototypes(6, 9)
    z = nn.functional.normalize(torch.randn(2, 3, 6), dim=-1)
    found = prototypes(z)
    assert found.shape == (2, 3, 9)
    for p in range(9):
        cosine = nn.functional.cosine_similarity(z, prototypes.weight[p].expand_as(z), dim=-1)
        torch.testing.assert_close(found[..., p], cosine)
    with torch.no_grad():
        prototypes.weight *= torch.linspace(0.1, 30, 9)[:, None]
    torch.testing.assert_close(prototypes(z), found)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(prototypes(z), found)


def test_the_scale_starts_exact_is_trained_directly_and_stays_positive():
    affine = Affine()
    assert (affine.scale.item(), affine.bias.item()) == (10.0, -5.0)
    optimizer = torch.optim.SGD(affine.parameters(), lr=0.3)
    seen = []
    for _ in range(60):
        optimizer.zero_grad()
        affine.scale.backward()  # always lower
        optimizer.step()
        seen.append(affine.scale.item())
    assert seen[:2] == pytest.approx([9.7, 9.4]) and all(0 < scale < 10 for scale in seen)
    (-affine.scale).backward()  # and it can rise again
    assert float(affine.weight.grad) != 0
