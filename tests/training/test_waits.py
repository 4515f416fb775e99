"""A training step never makes the host wait for a GPU; checked on a CPU by the operations it dispatches.

On a GPU, ``benchmarks/gpu.py`` asks CUDA itself.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from idemvox.batch import Batch
from idemvox.devices import Fetched
from idemvox.frameworks.base import Framework
from idemvox.positives import drawing, queue, ssps_centroid
from idemvox.registry import FRAMEWORKS
from idemvox.training.run import Run

WAITS = {
    "_local_scalar_dense",  # item(), float(x), bool(x), int(x)
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "bincount",
}
"""Operations whose result, or the size of whose result, the host has to wait for."""


class Waits(TorchDispatchMode):
    """Records every operation that would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITS or by_mask or func is torch.ops.aten.repeat_interleave.Tensor:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def pretend(monkeypatch):
    """Make samplers behave as they do on a GPU, and count how often a step waits for its result."""
    for module in (drawing, queue, ssps_centroid):
        monkeypatch.setattr(module, "is_free_to_read", lambda x: False)
    read: list[int] = []
    numbers = Fetched.numbers
    monkeypatch.setattr(Fetched, "numbers", lambda self: read.append(1) or numbers(self))
    return read


@pytest.mark.parametrize("operation", ["item", "mask", "nonzero", "put"])
def test_a_wait_is_detected(operation):
    x, mask = torch.zeros(3), torch.tensor([True, False, True])
    with Waits() as waits:
        if operation == "put":
            x[mask] = 1.0
        else:
            {"item": lambda: x[0].item(), "mask": lambda: x[mask], "nonzero": x.nonzero}[operation]()
    assert waits.seen


SYSTEMS = [
    (name, positives)
    for name in FRAMEWORKS
    for positives in ("same", "ssps")
    if positives == "same" or FRAMEWORKS[name].target is not Framework.target
]
SYSTEMS += [("simclr", "nearest_neighbour"), ("simclr", "ssps_centroid")]


def begin(run: Run, batch: Batch) -> None:
    """Do everything that comes before a step, and everything that is made only once."""
    if run.to_fill:
        deque(run.fill(), maxlen=0)
    run.prepare()
    run.step([batch], 0, 0.1)


@pytest.mark.parametrize(("framework", "positives"), SYSTEMS)
def test_a_step_waits_once(tiny_recipe, pretend, framework, positives):
    labelled = FRAMEWORKS[framework].supervised
    run = Run(tiny_recipe(labelled=labelled, framework=framework, positives=positives))
    first, second = (next(iter(run.batches.epoch(epoch, run.positives))) for epoch in (0, 1))
    begin(run, first)
    del pretend[:]
    with Waits() as waits:
        run.step([second], 0, 0.2)
    assert waits.seen == []
    assert len(pretend) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("framework", "positives"), SYSTEMS)
def test_a_step_on_a_gpu_only_waits_for_its_result(tiny_recipe, framework, positives):
    labelled = FRAMEWORKS[framework].supervised
    recipe = tiny_recipe("training.device=cuda", labelled=labelled, framework=framework, positives=positives)
    run = Run(recipe)
    first, second = (next(iter(run.batches.epoch(epoch, run.positives))) for epoch in (0, 1))
    begin(run, first)
    torch.cuda.set_sync_debug_mode("error")  # waiting for an event, as Fetched does, is not one of them
    try:
        run.step([second], 0, 0.2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
