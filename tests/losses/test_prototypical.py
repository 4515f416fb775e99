"""Prototypical losses, compared with loops written from the formulas."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.prototypical import angular_contrastive, angular_prototypical, prototypical


def cross_entropy(logits: list[list[float]], out: Tensor | None) -> list[float]:
    """Cross-entropy of each row with the target on the diagonal, without the excluded pairs."""
    rows = []
    for i, row in enumerate(logits):
        terms = {j: math.exp(x) for j, x in enumerate(row) if j == i or out is None or not out[i, j]}
        rows.append(-math.log(terms[i] / sum(terms.values())))
    return rows


def slow_prototypical(anchor: Tensor, prototype: Tensor, out: Tensor | None = None) -> list[float]:
    return cross_entropy([[-float(((a - p) ** 2).sum()) for p in prototype] for a in anchor], out)


def slow_angular_prototypical(
    anchor: Tensor, prototype: Tensor, scale: float, bias: float, out: Tensor | None = None
) -> list[float]:
    """Eq. 4 and 5 of the CEL paper."""

    def similarity(a: Tensor, p: Tensor) -> float:
        return scale * float(a @ p) / math.sqrt(float(a @ a) * float(p @ p)) + bias

    return cross_entropy([[similarity(a, p) for p in prototype] for a in anchor], out)


def slow_angular_contrastive(
    anchor: Tensor, prototype: Tensor, scale: float, bias: float, out: Tensor | None = None
) -> list[float]:
    """Eq. 6: each crop is an anchor, and the crops of the other view are its candidates."""
    forth = slow_angular_prototypical(anchor, prototype, scale, bias, out)
    back = slow_angular_prototypical(prototype, anchor, scale, bias, out)
    return [(f + b) / 2 for f, b in zip(forth, back, strict=True)]


ANGULAR = [
    (angular_prototypical, slow_angular_prototypical),
    (angular_contrastive, slow_angular_contrastive),
]
BOUND = [
    (partial(fast, scale=scale, bias=bias), partial(slow, scale=scale, bias=bias))
    for fast, slow in ANGULAR
    for scale, bias in ((10.0, -5.0), (0.5, 2.0))
]
ORACLES = [(prototypical, slow_prototypical), *BOUND]
LOSSES = [prototypical, *(fast for fast, _ in BOUND[::2])]


def pair(batch: int = 5, dim: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return tuple(1.5 * torch.randn(2, batch, dim, generator=generator, dtype=dtype))


def pairs(batch: int, share: float = 0.4) -> Tensor:
    """Random pairs to exclude, not symmetric, and also on the diagonal."""
    return torch.rand(batch, batch, generator=torch.Generator().manual_seed(batch)) < share


@pytest.mark.parametrize(("fast", "slow"), ORACLES)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_equals_the_formula(fast, slow, batch):
    anchor, prototype = pair(batch)
    for out in (None, pairs(batch), torch.ones(batch, batch, dtype=torch.bool)):
        rows = slow(anchor, prototype, out=out)
        found = fast(anchor, prototype, leave_out=out, reduction="none")
        assert found.tolist() == pytest.approx(rows, abs=1e-10)
        assert float(fast(anchor, prototype, leave_out=out)) == pytest.approx(mean(rows), abs=1e-10)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient(loss):
    anchor, prototype = (x.requires_grad_() for x in pair(4, 3))
    for reduction in ("mean", "none"):
        assert torch.autograd.gradcheck(partial(loss, reduction=reduction), (anchor, prototype))
    assert torch.autograd.gradcheck(lambda a, p: loss(a, p, leave_out=pairs(4)), (anchor, prototype))


@pytest.mark.parametrize("loss", [angular_prototypical, angular_contrastive])
def test_the_scale_has_a_gradient_and_the_bias_cancels(loss):
    anchor, prototype = pair()
    scale, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (10.0, -5.0))
    assert torch.autograd.gradcheck(lambda s: loss(anchor, prototype, s, -5.0), scale)
    loss(anchor, prototype, scale, bias).backward()
    assert abs(float(scale.grad)) > 1e-3 and float(bias.grad) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_norm_only_matters_for_plain_prototypes(loss):
    anchor, prototype = pair()
    plain, scaled = (float(loss(a, p)) for a, p in ((anchor, prototype), (0.5 * anchor, 3 * prototype)))
    assert (plain == pytest.approx(scaled, abs=1e-12)) == (loss is not prototypical)


@pytest.mark.parametrize("loss", LOSSES)
def test_reordering_the_batch_changes_nothing_but_mismatched_pairs_do(loss):
    anchor, prototype = pair(6)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    value = float(loss(anchor, prototype))
    assert float(loss(anchor[order], prototype[order])) == pytest.approx(value, abs=1e-10)
    assert abs(float(loss(anchor[order], prototype)) - value) > 1e-3


@pytest.mark.parametrize("loss", LOSSES)
def test_autocast_leaves_the_logits_in_single_precision(loss):
    anchor, prototype = pair(8, 16, torch.float32)
    plain = loss(anchor, prototype)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(anchor, prototype) == plain
        half = loss(anchor.bfloat16(), prototype.bfloat16())
    assert half.dtype == torch.float32
    assert half == loss(anchor.bfloat16().float(), prototype.bfloat16().float())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_detached_prototype_gets_no_gradient_and_the_anchor_does(loss):
    anchor, prototype = pair()
    anchor.requires_grad_()
    loss(anchor, prototype).backward()
    assert anchor.grad.abs().sum() > 0 and prototype.grad is None
