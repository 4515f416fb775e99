"""Progress within an epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Place"]


@dataclass(slots=True)
class Place:
    """Progress within the current epoch, and the values collected for its numbers.

    Attributes:
        filled: finished batches of the pass that fills the queues before it.
        steps: finished steps.
        numbers: numbers from the positive sampler at the start of the epoch.
        sums: scalars of each step, on the device.
    """

    filled: int = 0
    steps: int = 0
    numbers: dict[str, float] = field(default_factory=dict)
    sums: defaultdict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def means(self) -> dict[str, float]:
        """Return the mean of each scalar in ``sums``."""
        return {name: float(torch.stack(values).mean()) for name, values in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Return the progress as tensors and plain values."""
        sums = {name: torch.stack(values) for name, values in self.sums.items()}
        return {"filled": self.filled, "steps": self.steps, "numbers": self.numbers, "sums": sums}

    @classmethod
    def restored(cls, state: Mapping[str, Any], device: torch.device) -> Place:
        """Return the progress from :meth:`state`."""
        place = cls(state["filled"], state["steps"], dict(state["numbers"]))
        for name, values in state["sums"].items():
            place.sums[name] = list(values.to(device).unbind())
        return place
