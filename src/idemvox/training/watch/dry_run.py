"""The dry run: two steps of each phase of a run, to estimate time and memory."""

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

_TAKEN = 2  # batches or steps to run of each phase
_EVALUATED = 1000  # utterances assumed in an evaluation
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Phase:
    """Estimates for a phase.

    Attributes:
        name: name of the phase.
        each: seconds per unit.
        units: number of units in the run.
        memory: most bytes of memory.
    """

    name: str
    each: float
    units: int
    memory: int

    @property
    def seconds(self) -> float:
        """Seconds of all units."""
        return self.each * self.units


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The result of a dry run.

    Attributes:
        phases: estimates for each phase.
        text: a summary.
    """

    phases: tuple[Phase, ...]
    text: str


def rehearse(recipe: Recipe) -> Rehearsal:
    """Take two real steps of every phase of a recipe; nothing is written.

    The fill pass and the steps are as in a run. k-means clusters as many vectors as in a run, all random
    except those of the two batches. Two whole utterances are embedded, as in an evaluation.

    Raises:
        IdemvoxError: any error of the run itself; if memory is full, it names the keys to lower.
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
            _fill_references(run)
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
        return Rehearsal(tuple(phases), f"about {span(seconds)} in all: {forecast.hours_text(seconds)}")


def _fill_references(run: Run) -> None:
    """Give every utterance a random reference."""
    if "reference" in run.positives.views():
        dim = run.framework.embedder.dim
        for ids in torch.arange(run.batches.size, device=run.fabric.device).split(_BLOCK):
            run.positives.observe(ids, torch.randn(len(ids), dim, device=ids.device))


def _embed_two(run: Run) -> float:
    """Embed two whole utterances; return the seconds for the second."""
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
    """Return the peak memory in bytes: on a GPU since the last call, on a CPU since the process started.

    It is 0 on Windows, where Python cannot measure it.
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
