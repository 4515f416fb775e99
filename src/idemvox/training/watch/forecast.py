"""Estimates of how long a run will take."""

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
    """Seconds per unit of work; the first unit, which is slower, only counts while it is the only one."""

    first: float
    others: float = 0.0
    count: int = 0

    @property
    def each(self) -> float:
        return self.others / self.count if self.count else self.first


class Forecast:
    """Times a run's phases as they happen, and reports once how much time is left.

    Args:
        gpus: whether each process has a GPU; otherwise CPU hours are reported.
    """

    def __init__(self, gpus: bool) -> None:
        self.gpus = gpus
        self.processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.paces: dict[str, _Pace] = {}
        self.reported = False
        self._mark, self._cpu = time.perf_counter(), (time.perf_counter(), time.process_time())

    def begin(self) -> None:
        """Start timing a phase."""
        self._mark = time.perf_counter()

    def tick(self, phase: str) -> None:
        """Record one finished unit of a phase."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        if phase in self.paces:
            self.paces[phase].others += seconds
            self.paces[phase].count += 1
        else:
            self.paces[phase] = _Pace(seconds)

    def seconds(self, units: Mapping[str, int]) -> dict[str, float]:
        """Return the seconds for the given units of each phase that has been timed."""
        return {phase: self.paces[phase].each * units[phase] for phase in units if phase in self.paces}

    @property
    def settled(self) -> bool:
        """Whether the estimate is reliable and not reported yet."""
        pace = self.paces.get("training")
        return (
            not self.reported and pace is not None and pace.count > 0 and pace.first + pace.others >= SETTLED
        )

    def device_hours(self, seconds: float) -> float:
        """Return hours over all GPUs, or CPU hours at the rate so far."""
        wall, cpu = time.perf_counter() - self._cpu[0], time.process_time() - self._cpu[1]
        return seconds / 3600 * self.processes * (1 if self.gpus else cpu / max(wall, 1e-9))

    def say(self, units: Mapping[str, int], console: Console | None) -> None:
        """Print the time for the remaining units, if there is a console."""
        self.reported = True
        left = sum(self.seconds(units).values())
        end = datetime.now() + timedelta(seconds=left)
        when = end.strftime("%H:%M" if left < 12 * 3600 else "%a %d %b %H:%M")
        if console is not None:
            console.print(f"about {span(left)} to go, until {when}: {self.hours_text(left)}", highlight=False)

    def hours_text(self, seconds: float) -> str:
        """Return device hours as text."""
        return f"{self.device_hours(seconds):.3g} {'GPU' if self.gpus else 'CPU'}-hours"


def span(seconds: float) -> str:
    """Return a duration as text.

    >>> [span(s) for s in (5, 300, 9000, 400_000)]
    ['5 s', '5 min', '2.5 h', '4.6 days']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
