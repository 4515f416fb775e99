"""Memory for batches: reused once it is free, and never before."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from idemvox.audio import memory
from idemvox.audio.memory import empty, to_wave

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_free(monkeypatch):
    monkeypatch.setattr(memory, "_free", {})


def test_memory_is_reused_once_it_is_free():
    first = empty((3, 5), torch.int16, CPU)
    assert first.shape == (3, 5) and first.dtype == torch.int16
    place = first.data_ptr()
    for holder in (first[1:].view(-1), first.numpy(), first.unsqueeze(0)):  # a view keeps it
        del first
        gc.collect()
        assert empty((3, 5), torch.int16, CPU).data_ptr() != place
        first = torch.as_tensor(holder)
    del holder, first
    gc.collect()
    other, again, third = (
        empty(s, t, CPU) for s, t in (((3, 5), torch.float32), ((3, 5), torch.int16), ((5, 3), torch.int16))
    )
    assert again.data_ptr() == place
    assert other.data_ptr() != place != third.data_ptr()


def test_two_batches_at_a_time_have_separate_memory():
    tensors = [empty((100,), torch.float32, CPU) for _ in range(20)]
    for number, tensor in enumerate(tensors):
        tensor.fill_(number)
    assert [t.unique().tolist() for t in tensors] == [[n] for n in range(20)]


def test_only_a_limited_amount_is_kept():
    tensors = [empty((8,), torch.float32, CPU) for _ in range(50)]
    del tensors
    for size in range(1, 60):
        empty((size,), torch.float32, CPU)
    gc.collect()
    assert len(memory._free) <= memory._SHAPES
    assert all(len(kept) <= memory._ARRAYS for kept in memory._free.values())


def test_samples_become_a_wave():
    pcm = torch.tensor([[[-32768, 0, 32767], [1, 2, 3]]] * 5, dtype=torch.int16)
    wave = to_wave(pcm)
    assert wave.dtype == torch.float32 and np.array_equal(wave, pcm.numpy() / np.float32(32768))
    assert to_wave(wave) is wave
