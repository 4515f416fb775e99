"""Teachers: they follow slowly, in their parameters only."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from idemvox.frameworks.parts.teacher import cosine_momentum, follow, teacher_of


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))


def test_parameters_move_by_their_share_and_statistics_do_not():
    student = network()
    teacher = teacher_of(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p += torch.randn(p.shape)
    student(torch.randn(8, 3))  # its own running statistics
    follow(teacher, student, 0.9)
    for now, was, theirs in zip(teacher.parameters(), before, student.parameters(), strict=True):
        torch.testing.assert_close(now, 0.9 * was + 0.1 * theirs)
    assert torch.equal(teacher[1].running_mean, torch.zeros(4)) and student[1].running_mean.any()
    still = [p.clone() for p in teacher.parameters()]
    follow(teacher, student, 1.0)
    assert all(map(torch.equal, still, teacher.parameters()))


def test_momentum_follows_half_a_cosine():
    assert cosine_momentum(0, 0.996) == pytest.approx(0.996)
    assert cosine_momentum(0.25, 0.996) == pytest.approx(1 - 0.002 * (1 + math.sqrt(0.5)))
    assert cosine_momentum(1, 0.996) == cosine_momentum(1.2, 0.996) == 1
    assert cosine_momentum(0.8, 0.996) == pytest.approx(0.9996, abs=5e-5)  # where SSPS starts in the paper
