"""Reuse of memory for whole batches of audio."""

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

_ROWS = 2  # rows of a batch that a CPU converts at a time, so that they stay in its cache
_SHAPES, _ARRAYS = 16, 8  # how many kinds (shape, type) of free arrays are kept at most, and how many of each

_Key = tuple[tuple[int, ...], torch.dtype]
_free: dict[_Key, deque[npt.NDArray[Any]]] = {}


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device, pinned: bool = False) -> Tensor:
    """Return an uninitialised tensor.

    On a CPU its memory is reused as soon as no tensor or array refers to it. A batch of audio is tens of
    megabytes. The operating system would supply and clear that memory page by page on first use, which costs
    more than filling it. (On a GPU, and for pinned memory, PyTorch itself reuses memory.)
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
    """Convert (B, ...) 16-bit samples to float32, full scale at 1; return floating point unchanged."""
    if pcm.is_floating_point():
        return pcm
    if pcm.device.type != "cpu":
        return pcm * (1 / FULL_SCALE)
    wave = empty(pcm.shape, torch.float32, pcm.device)
    for part, whole in zip(wave.split(_ROWS), pcm.split(_ROWS), strict=True):
        part.copy_(whole).mul_(1 / FULL_SCALE)
    return wave
