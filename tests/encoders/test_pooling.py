from __future__ import annotations

import math

import torch

from idemvox.encoders.pooling import AttentiveStatistics, SelfAttentivePooling, mean_and_deviation


def test_sap_equals_the_formula() -> None:
    torch.manual_seed(0)
    pool = SelfAttentivePooling(5)
    x, frames = torch.randn(3, 5, 7), [7, 4, 1]
    pooled = pool(x, torch.tensor(frames))
    for row, count in enumerate(frames):
        steps = [x[row, :, t] for t in range(count)]
        scores = [(torch.tanh(pool.project(v)) @ pool.context[:, 0]).item() for v in steps]
        total = sum(math.exp(s) for s in scores)
        expected = sum(math.exp(s) / total * v for s, v in zip(scores, steps, strict=True))
        torch.testing.assert_close(pooled[row], expected)


def test_attentive_statistics_equal_the_formula() -> None:
    """The attention network on the concatenation [x, mean, deviation], frame by frame."""
    torch.manual_seed(0)
    pool = AttentiveStatistics(4, hidden=3).eval()
    pool.norm.running_mean = torch.randn(3)
    x, frames = torch.randn(2, 4, 6), [6, 3]
    pooled = pool(x, torch.tensor(frames))
    for row, count in enumerate(frames):
        valid = x[row, :, :count]
        mean, deviation = valid.mean(1), valid.var(1, unbiased=False).sqrt()
        context = [moment[:, None].expand(-1, count) for moment in (mean, deviation)]
        seen = torch.cat([valid, *context])[None]
        scores = pool.score(torch.tanh(pool.norm(torch.relu(pool.reduce(seen)))))[0]
        weights = torch.exp(scores) / torch.exp(scores).sum(1, keepdim=True)
        centre = (weights * valid).sum(1)
        spread = ((weights * valid.square()).sum(1) - centre.square()).sqrt()
        torch.testing.assert_close(pooled[row], torch.cat([centre, spread]), atol=1e-4, rtol=1e-4)


def test_constant_channels_have_finite_gradients() -> None:
    x = torch.full((1, 2, 5), 3.0, requires_grad=True)
    mean, deviation = mean_and_deviation(x)
    (mean.sum() + deviation.sum()).backward()
    assert deviation.max() <= 1e-6
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_statistics_stay_in_single_precision() -> None:
    """bfloat16 would lose a deviation of 0.01 beside a mean of 10."""
    torch.manual_seed(0)
    x = (10 + 0.01 * torch.randn(2, 4, 400)).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        pooled = AttentiveStatistics(4, 3).eval()(x)
        assert SelfAttentivePooling(4)(x).dtype == torch.float32
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled[:, 4:], torch.full((2, 4), 0.01), atol=3e-3, rtol=0)
