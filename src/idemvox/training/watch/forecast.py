"""How long a run will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console
from torch import distributed as dist

__all__ = ["Forecast", "span"]

SETTLED = 20.0  # seconds of training after which its pace is known


@dataclass(slots=True)
class _Pace:
    """Seconds that units of work took; the first, which is slower, counts only while it is the only one."""

    first: float
    others: float = 0.0
    count: int = 0

    @property
    def each(self) -> float:
        return self.others / self.count if self.count else self.first


class Forecast:
    """Takes the time of a run's phases as they go by, and says once how much is left.

    Args:
        gpus: whether each process has one; otherwise the hours of processor cores are told.
    """

    def __init__(self, gpus: bool) -> None:
        self.gpus = gpus
        self.processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.paces: dict[str, _Pace] = {}
        self.said = False
        self._mark, self._cpu = time.perf_counter(), (time.perf_counter(), time.process_time())

    def begin(self) -> None:
        """A phase begins."""
        self._mark = time.perf_counter()

    def tick(self, phase: str) -> None:
        """One more unit of a phase is done."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        if phase in self.paces:
            self.paces[phase].others += seconds
            self.paces[phase].count += 1
        else:
            self.paces[phase] = _Pace(seconds)

    def seconds(self, units: Mapping[str, int]) -> dict[str, float]:
        """Return how long so many units of each phase take, of those that have been seen."""
        return {phase: self.paces[phase].each * units[phase] for phase in units if phase in self.paces}

    @property
    def settled(self) -> bool:
        """Whether to say it now."""
        pace = self.paces.get("training")
        return not self.said and pace is not None and pace.count > 0 and pace.first + pace.others >= SETTLED

    def device_hours(self, seconds: float) -> float:
        """Return the hours of all GPUs, or else of processor cores at the rate used so far."""
        wall, cpu = time.perf_counter() - self._cpu[0], time.process_time() - self._cpu[1]
        return seconds / 3600 * self.processes * (1 if self.gpus else cpu / max(wall, 1e-9))

    def say(self, units: Mapping[str, int], console: Console | None) -> None:
        """Say how long so many units will take, if there is anybody to tell."""
        self.said = True
        left = sum(self.seconds(units).values())
        end = datetime.now() + timedelta(seconds=left)
        when = end.strftime("%H:%M" if left < 12 * 3600 else "%a %d %b %H:%M")
        if console is not None:
            console.print(f"about {span(left)} to go, until {when}: {self.told(left)}", highlight=False)

    def told(self, seconds: float) -> str:
        """Return device hours as text."""
        return f"{self.device_hours(seconds):.3g} {'GPU' if self.gpus else 'CPU'}-hours"


def span(seconds: float) -> str:
    """Write a length of time.

    >>> [span(s) for s in (5, 300, 9000, 400_000)]
    ['5 s', '5 min', '2.5 h', '4.6 days']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
