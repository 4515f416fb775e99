"""Teachers: copies of a network whose parameters are a moving average of its own."""

from __future__ import annotations

import copy
import math
from typing import TypeVar

import torch
from torch import nn

__all__ = ["cosine_momentum", "follow", "teacher_of"]

M = TypeVar("M", bound=nn.Module)


def teacher_of(student: M) -> M:
    """Return a copy of the student whose parameters need no gradient.

    It stays in train mode with its student: its batch normalisation uses the statistics of its own batches
    and keeps its own running statistics.
    """
    return copy.deepcopy(student).requires_grad_(False)


def cosine_momentum(progress: float, start: float) -> float:
    """Return the teacher's momentum, which rises from ``start`` at progress 0 to 1 at 1, by half a cosine.

    >>> [round(cosine_momentum(p, 0.996), 4) for p in (0, 0.5, 1)]
    [0.996, 0.998, 1.0]
    """
    return 1 - (1 - start) * (math.cos(math.pi * min(progress, 1.0)) + 1) / 2


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move each parameter of the teacher towards the student's by the share 1 - ``momentum``.

    Buffers do not change: each network has its own running statistics.
    """
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    slow, fast = (list(parameters) for parameters in zip(*pairs, strict=True))
    torch._foreach_lerp_(slow, fast, 1 - momentum)
