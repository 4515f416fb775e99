"""Optimisers: trained parameters, weight decay, rates, and clipping of gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from idemvox.recipe import Training
from idemvox.training.optimizer import build_optimizer, clip_each, learning_rate


def network() -> nn.Sequential:
    found = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    found[2].requires_grad_(False)
    return found


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_only_matrices_decay_and_frozen_parameters_are_left_out(name):
    module = network()
    optimizer = build_optimizer(module, Training(optimizer=name, weight_decay=0.3, lr=0.1))
    matrices, rest = optimizer.param_groups
    assert matrices["weight_decay"] == 0.3 and [p is module[0].weight for p in matrices["params"]] == [True]
    assert rest["weight_decay"] == 0
    assert {id(p) for p in rest["params"]} == {id(module[0].bias), *map(id, module[1].parameters())}
    if name == "sgd":
        assert matrices["momentum"] == rest["momentum"] == 0.9


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_initially_frozen_parameters_are_trained_later(name):
    """As DINO's last layer; the fused SGD of torch 2.13 fails on it."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = module[1].weight.detach().clone()
    optimizer = build_optimizer(module, Training(optimizer=name, lr=0.1))
    for epoch in range(2):
        module(torch.ones(5, 3)).square().sum().backward()
        if epoch == 0:
            module[1].weight.grad = None
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(module[1].weight, before) == (epoch == 0)


def test_fused_steps_equal_plain_ones_up_to_rounding():
    """A state saved by the plain optimiser can also be continued."""
    torch.manual_seed(0)
    fused = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    plain, resumed = copy.deepcopy(fused), copy.deepcopy(fused)
    training = Training(optimizer="adam", weight_decay=0.3, lr=0.1)
    optimizers = [build_optimizer(module, training) for module in (fused, plain, resumed)]
    assert all(group["fused"] for group in optimizers[0].param_groups)
    for group in optimizers[1].param_groups:
        group["fused"] = None
    x = torch.randn(8, 3)
    for step in range(4):
        for module, optimizer in zip((fused, plain, resumed), optimizers, strict=True):
            module(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        if step == 1:
            resumed.load_state_dict(plain.state_dict())
            optimizers[2].load_state_dict(copy.deepcopy(optimizers[1].state_dict()))
    assert optimizers[2].param_groups[0]["fused"] is None
    for one, other, third in zip(*(m.parameters() for m in (fused, plain, resumed)), strict=True):
        torch.testing.assert_close(one, other)
        assert torch.equal(third, other)


def test_each_parameter_is_clipped_separately():
    a, b, c = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    a.grad, b.grad = torch.full((4,), 10.0), torch.full((4,), 0.1)
    clip_each([a, b, c], 3.0)
    torch.testing.assert_close(a.grad, torch.full((4,), 1.5))
    torch.testing.assert_close(b.grad, torch.full((4,), 0.1))
    assert c.grad is None
    clip_each([c], 3.0)


def test_step_decay_follows_epochs_and_cosine_follows_steps():
    step = Training(lr=1e-3, lr_decay=0.5, lr_every=2)
    assert [learning_rate(step, e, 7, 10, 9) for e in range(4)] == [1e-3, 1e-3, 5e-4, 5e-4]
    cosine = Training(
        schedule="cosine", lr=0.2, warmup_epochs=10, epochs=80, schedule_epochs=100, min_lr=1e-5
    )
    rates = [learning_rate(cosine, e, s, 5, 100) for e in range(100) for s in range(5)]
    assert rates[0] == 0 and rates[25] == pytest.approx(0.1) and max(rates) == rates[50] == 0.2
    assert rates[-1] == pytest.approx(1e-5) and rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[80 * 5] == pytest.approx(0.023, abs=5e-4)
