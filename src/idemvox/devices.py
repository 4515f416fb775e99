"""Moving small tensors to a device and back without making either wait."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["Fetched", "is_free_to_read", "to_device"]


def to_device(x: Tensor | npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return ``x`` on a device; on a GPU the copy runs behind what is queued there, and nobody waits.

    An ordinary copy from the CPU waits for the GPU to finish all that it was given before.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def is_free_to_read(x: Tensor) -> bool:
    """Return whether the host may look at the numbers of ``x`` without waiting for a device."""
    return x.is_cpu


class Fetched:
    """Numbers on their way from a device to the CPU.

    Args:
        values: (n,) on any device; later changes to it are not seen.
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
        """Wait until they are there, and return them."""
        if self._event is not None:
            self._event.synchronize()
        return [float(number) for number in self._host.tolist()]
