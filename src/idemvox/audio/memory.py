"""Memory for whole batches of audio."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from idemvox.audio.read import FULL_SCALE

__all__ = ["empty", "to_wave"]

_ROWS = 2  # rows of a batch that are converted at a time on a CPU: they stay in its cache
_SHAPES, _ARRAYS = 16, 8  # how many kinds of free memory are kept at most, and how much of each

_Key = tuple[tuple[int, ...], torch.dtype]
_free: dict[_Key, deque[npt.NDArray[Any]]] = {}


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device, pinned: bool = False) -> Tensor:
    """Return a tensor with anything in it.

    On a CPU its memory is used again as soon as nobody holds a tensor or an array of it any more.  A batch of
    audio is tens of megabytes; from the system they come page by page, each wiped, at the first touch, which
    costs more than filling them.  (On a GPU, and for pinned memory, PyTorch does the like itself.)
    """
    if device.type != "cpu" or pinned:
        return torch.empty(*shape, dtype=dtype, device=device, pin_memory=pinned)
    key = tuple(shape), dtype
    try:
        memory = _free[key].pop()
    except LookupError:
        memory = np.empty(shape, torch.empty(0, dtype=dtype).numpy().dtype)
    lent = memory.view()
    weakref.finalize(lent, _take_back, key, memory).atexit = False
    return torch.from_numpy(lent)


def _take_back(key: _Key, memory: npt.NDArray[Any]) -> None:
    if len(_free) >= _SHAPES and key not in _free:
        _free.clear()
    _free.setdefault(key, deque(maxlen=_ARRAYS)).append(memory)


def to_wave(pcm: Tensor) -> Tensor:
    """Return (B, ...) 16-bit samples as float32 with full scale at 1; floating-point samples as they are."""
    if pcm.is_floating_point():
        return pcm
    if pcm.device.type != "cpu":
        return pcm * (1 / FULL_SCALE)
    wave = empty(pcm.shape, torch.float32, pcm.device)
    for part, whole in zip(wave.split(_ROWS), pcm.split(_ROWS), strict=True):
        part.copy_(whole).mul_(1 / FULL_SCALE)
    return wave
