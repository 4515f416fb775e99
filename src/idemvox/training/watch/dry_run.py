"""A run in small: two steps of each of its phases, for how long they take and what memory they need."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from idemvox.audio.read import from_pcm
from idemvox.modules import evaluating
from idemvox.recipe import Recipe
from idemvox.training.run import Run
from idemvox.training.watch.forecast import Forecast, span
from idemvox.training.watch.safety import memory_named

__all__ = ["Phase", "Rehearsal", "rehearse"]

_TAKEN = 2  # batches or steps of each phase
_EVALUATED = 1000  # utterances that an evaluation is reckoned with
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase was found to take: seconds each, how many there will be, and bytes of memory at most."""

    name: str
    each: float
    units: int
    memory: int

    @property
    def seconds(self) -> float:
        """Of all."""
        return self.each * self.units


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The phases, and all of it in words."""

    phases: tuple[Phase, ...]
    said: str


def rehearse(recipe: Recipe) -> Rehearsal:
    """Take two real steps of every phase that a recipe has; nothing is written.

    The fill pass and the steps are as in a run.  k-means clusters as many vectors as there will be, random
    ones but for those of the two batches.  Two utterances are embedded whole, as an evaluation does.

    Raises:
        IdemvoxError: whatever the run would have raised; if memory does not suffice, by the keys to lower.
    """
    with memory_named(recipe):
        run = Run(recipe)
        if recipe.start_from is not None:
            run.start_from(recipe.start_from)
        units, device, memory = run.left(), run.fabric.device, {}
        forecast = Forecast(device.type == "cuda")
        if run.to_fill:
            forecast.begin()
            for _ in islice(run.fill(), _TAKEN):
                forecast.tick("filling")
            memory["filling"] = _peak(device)
            _refer(run)
        forecast.begin()
        run.prepare()
        forecast.tick("clustering")
        for _ in islice(run.epoch(), _TAKEN):
            forecast.tick("training")
        memory["clustering"] = memory["training"] = _peak(device)
        paces = forecast.paces
        phases = [Phase(name, paces[name].each, units[name], memory[name]) for name in units if units[name]]
        phases.append(Phase("evaluation", _embed_two(run), _EVALUATED, _peak(device)))
        seconds = sum(phase.seconds for phase in phases)
        return Rehearsal(tuple(phases), f"about {span(seconds)} in all: {forecast.told(seconds)}")


def _refer(run: Run) -> None:
    """Give every utterance a random reference."""
    if "reference" in run.positives.views():
        dim = run.framework.embedder.dim
        for ids in torch.arange(run.batches.size, device=run.fabric.device).split(_BLOCK):
            run.positives.observe(ids, torch.randn(len(ids), dim, device=ids.device))


def _embed_two(run: Run) -> float:
    """Embed two whole utterances; return the seconds of the second."""
    source = run.batches.cropper.source
    with evaluating(run.framework.embedder):
        for index in (0, 1):
            began = time.perf_counter()
            pcm = np.empty(int(source.lengths[index]), np.int16)
            source.read_into(index, 0, pcm)
            wave = torch.from_numpy(from_pcm(pcm)).to(run.fabric.device)
            with run.fabric.autocast():
                run.framework.embedder(wave[None]).cpu()
    return time.perf_counter() - began


def _peak(device: torch.device) -> int:
    """Return the most bytes in use since the last call on a GPU, since the process began on a CPU.

    It is 0 on Windows, which Python cannot ask.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)
