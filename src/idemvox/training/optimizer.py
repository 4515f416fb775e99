"""Optimisers, learning rates and gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import SGD, Adam, Optimizer

from idemvox.recipe import Training
from idemvox.training.schedules import step_decay, warmup_cosine

__all__ = ["build_optimizer", "clip_each", "learning_rate"]


def build_optimizer(module: Module, training: Training) -> Optimizer:
    """Return the recipe's optimiser of all trainable parameters, with weight decay only for matrices.

    Adam is fused, which only changes rounding. SGD is not: fused SGD of torch 2.13 fails if a parameter gets
    its first gradient later than others, as DINO's last layer does.
    """
    learning = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "sgd":
        return SGD(groups, lr=training.lr, momentum=0.9)
    return Adam(groups, lr=training.lr, fused=True)


def learning_rate(training: Training, epoch: int, step: int, steps: int, epochs: int) -> float:
    """Return the learning rate at a step.

    Args:
        training: training settings.
        epoch, step: both from 0.
        steps: steps per epoch.
        epochs: epochs of the schedule.
    """
    if training.schedule == "step":
        return step_decay(epoch, training.lr, training.lr_decay, training.lr_every)
    return warmup_cosine(
        epoch * steps + step, epochs * steps, training.warmup_epochs * steps, training.lr, training.min_lr
    )


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], most: float) -> None:
    """Clip the gradient of each parameter separately to a norm of at most ``most``."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        norms = torch._foreach_norm(gradients)
        torch._foreach_mul_(gradients, [(most / (norm + 1e-6)).clamp_max(1.0) for norm in norms])
