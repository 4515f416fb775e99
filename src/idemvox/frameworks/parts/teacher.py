"""Teachers: copies of a network whose parameters follow it slowly."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

__all__ = ["cosine_momentum", "follow", "teacher_of"]

M = TypeVar("M", bound=nn.Module)


def teacher_of(student: M) -> M:
    """Return a copy whose parameters no optimiser moves.

    It stays in train mode with its student: its batch normalisation works with its own batch statistics, and
    gathers its own running ones.
    """
    return copy.deepcopy(student).requires_grad_(False)


def cosine_momentum(progress: float, start: float) -> float:
    """Return the teacher's momentum: from ``start`` at 0 by half a cosine to 1 at ``progress`` 1.

    >>> [round(cosine_momentum(p, 0.996), 4) for p in (0, 0.5, 1)]
    [0.996, 0.998, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * min(progress, 1.0)) + 1) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move each parameter of the teacher by a share of 1 - ``momentum`` towards the student's.

    Buffers are left alone: running statistics are of what each has seen itself.
    """
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    ours, theirs = (list(each) for each in zip(*pairs, strict=True))
    torch._foreach_lerp_(ours, theirs, 1 - momentum)
