"""Copies of small tensors to a device and back that do not block."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idemvox.errors import RecipeError

__all__ = ["Fetched", "device_named", "is_free_to_read", "to_device"]


def device_named(name: str) -> torch.device:
    """Return the device that a recipe names; ``auto`` is a GPU if there is one.

    Raises:
        RecipeError: there is no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, usable in available.items() if usable))
    if name not in available:
        raise RecipeError(f"training.device must be auto, cpu, cuda or mps, not {name!r}")
    if not available[name]:
        raise RecipeError(f"training.device is {name}, but torch sees no GPU; use training.device=cpu")
    return torch.device(name)


def to_device(x: Tensor | npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return ``x`` on a device. On a GPU the copy is queued and does not block.

    An ordinary copy from the CPU blocks until the GPU has finished everything queued before it.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def is_free_to_read(x: Tensor) -> bool:
    """Return whether reading the values of ``x`` needs no wait for a device."""
    return x.is_cpu


class Fetched:
    """A copy of numbers from a device to the CPU that may still be running.

    Args:
        values: (n,) on any device; later changes to it do not affect the copy.
    """

    def __init__(self, values: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = values.detach()
        if values.is_cuda:
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values.detach(), non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def numbers(self) -> list[float]:
        """Wait for the copy to finish and return the numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [float(number) for number in self._host.tolist()]
