"""Counters and latencies of a service, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

__all__ = ["BUCKETS", "Metrics"]

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends in seconds of the latency histogram."""


class Metrics:
    """Counts requests by route and status, decisions, and latencies; several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._decisions: Counter[tuple[str, str]] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def observe(self, route: str, status: int, seconds: float, decision: str | None) -> None:
        """Count a request. The routes are those of the service, not addresses that clients make up."""
        with self._lock:
            self._requests[route, status] += 1
            if decision is not None:
                self._decisions[route, decision] += 1
            counts = self._latencies.setdefault(route, [0] * (len(BUCKETS) + 1))
            counts[bisect_left(BUCKETS, seconds)] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def render(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return the page that Prometheus reads.

        Args:
            gauges: name -> what it is, and its present value.
        """
        with self._lock:
            lines = _head("idemvox_requests_total", "counter", "Requests by route and status.")
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'idemvox_requests_total{{route="{route}",status="{status}"}} {count}')
            lines += _head("idemvox_decisions_total", "counter", "Decisions by route.")
            for (route, decision), count in sorted(self._decisions.items()):
                lines.append(f'idemvox_decisions_total{{route="{route}",decision="{decision}"}} {count}')
            lines += _head("idemvox_request_seconds", "histogram", "Time from request to response.")
            for route, counts in sorted(self._latencies.items()):
                total = 0
                for end, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                    total += count
                    lines.append(f'idemvox_request_seconds_bucket{{route="{route}",le="{end}"}} {total}')
                lines.append(f'idemvox_request_seconds_sum{{route="{route}"}} {self._seconds[route]:.6f}')
                lines.append(f'idemvox_request_seconds_count{{route="{route}"}} {total}')
        for name, (text, value) in gauges.items():
            lines += [*_head(name, "gauge", text), f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
