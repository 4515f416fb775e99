"""DINO's loss, compared with the formula, pair by pair."""

from __future__ import annotations

import math
from functools import partial
from statistics import mean

import pytest
import torch
from torch import Tensor

from idemvox.losses.distillation import entropy, self_distillation, sharpened


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def oracle(student: Tensor, teacher: Tensor, temperature: float, average: bool) -> list[float]:
    """For each utterance, sum over teacher views and the other student views, as in the paper."""
    batch, views, outputs = teacher.shape
    rows = []
    for i in range(batch):
        total, pairs = 0.0, 0
        for t in range(views):
            for s in range(student.shape[1]):
                if s == t:
                    continue
                scaled = [float(v) / temperature for v in student[i, s]]
                log_sum = math.log(sum(math.exp(v) for v in scaled))
                total -= sum(float(teacher[i, t, p]) * (scaled[p] - log_sum) for p in range(outputs))
                pairs += 1
        rows.append(total / (pairs if average else 1))
    return rows


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize(("student_views", "teacher_views"), [(6, 2), (2, 2), (2, 1), (5, 3)])
def test_is_the_mean_over_all_pairs_of_different_views(student_views, teacher_views, average):
    student = logits(3, student_views, 7)
    teacher = logits(3, teacher_views, 7, seed=1).softmax(-1)
    expected = oracle(student, teacher, 0.5, average)
    found = self_distillation(student, teacher, 0.5, average)
    assert float(found) == pytest.approx(mean(expected), abs=1e-10)
    rows = self_distillation(student, teacher, 0.5, average, reduction="none")
    assert rows.tolist() == pytest.approx(expected, abs=1e-10)


def test_only_the_student_gets_a_gradient():
    student, teacher = (
        logits(2, 4, 5).float().requires_grad_(),
        logits(2, 2, 5, seed=1).float().requires_grad_(),
    )
    self_distillation(student, sharpened(teacher, torch.zeros(5), 0.04), 0.1).backward()
    assert teacher.grad is None and student.grad.abs().sum() > 0


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradient(reduction):
    teacher = logits(2, 2, 5, seed=1).softmax(-1)
    loss = partial(self_distillation, teacher=teacher, temperature=0.5, reduction=reduction)
    assert torch.autograd.gradcheck(loss, logits(2, 4, 5).requires_grad_())


def test_the_teacher_is_centred_then_sharpened():
    given, centre = logits(2, 2, 6).float(), logits(6, seed=2).float()
    found = sharpened(given, centre, 0.04)
    weights = torch.exp((given.double() - centre.double()) / 0.04)
    torch.testing.assert_close(found.double(), weights / weights.sum(-1, keepdim=True), atol=1e-5, rtol=0)
    assert (entropy(found) < entropy(sharpened(given, centre, 1.0))).all()


def test_entropy_ranges_from_0_to_the_log_of_the_outputs():
    assert float(entropy(torch.eye(8))) == 0
    assert float(entropy(torch.full((3, 8), 1 / 8))) == pytest.approx(math.log(8))


def test_half_precision_inputs_are_computed_in_single_precision():
    student, teacher = logits(2, 3, 9).bfloat16(), logits(2, 2, 9, seed=1).softmax(-1).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = self_distillation(student, teacher, 0.1)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(self_distillation(student.float(), teacher, 0.1)), rel=1e-6)
