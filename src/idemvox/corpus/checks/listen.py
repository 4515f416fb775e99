"""Checks of samples: clipping, telephone bandwidth and duplicates, for each utterance in a file."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from idemvox.arrays import Wave
from idemvox.audio.sound import Listener, Sound
from idemvox.corpus.checks.scan import Facts, examine

__all__ = ["WHOLE", "Heard", "listen", "reviver"]

Window = tuple[float, float]  # start and length of an utterance in its file, in seconds

WHOLE: Window = (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Heard(Facts):
    """Facts about a file, with measurements of the utterances in it.

    Attributes:
        windows: start and length of each utterance.
        sounds: the measurements in each window.
    """

    windows: tuple[Window, ...] = ()
    sounds: tuple[Sound, ...] = ()


class _Windows:
    """Passes each block to the listeners of the windows it overlaps; only those are in memory."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._windows = windows
        self._waiting = sorted(range(len(windows)), key=lambda i: -windows[i][0])  # last first
        self._open: dict[int, Listener] = {}
        self._position = 0
        self._sounds = [Sound()] * len(windows)

    def hear(self, wave: Wave, rate: int) -> None:
        end = self._position + len(wave)
        while self._waiting and round(self._windows[self._waiting[-1]][0] * rate) < end:
            self._open[self._waiting.pop()] = Listener(rate)
        for index, listener in list(self._open.items()):
            start, seconds = self._windows[index]
            first = round(start * rate) - self._position
            last = round((start + seconds) * rate) - self._position if seconds < math.inf else len(wave)
            listener.feed(wave[max(0, first) : last])
            if last < len(wave):
                self._sounds[index] = self._open.pop(index).sound()
        self._position = end

    def sounds(self) -> tuple[Sound, ...]:
        for index, listener in self._open.items():
            self._sounds[index] = listener.sound()
        return tuple(self._sounds)


def listen(path: Path, windows: Sequence[Window] = (WHOLE,), stop: threading.Event | None = None) -> Heard:
    """Decode a file once and measure each of its windows; like :func:`examine` it raises no error."""
    parts = _Windows(windows)
    facts = examine(path, stop, parts.hear)
    return _heard(facts, tuple(windows), parts.sounds())


def _heard(facts: Facts, windows: tuple[Window, ...], sounds: tuple[Sound, ...]) -> Heard:
    known = {field.name: getattr(facts, field.name) for field in fields(facts)}
    return Heard(**known, windows=windows, sounds=sounds)


def reviver(windows_of: Mapping[str, Sequence[Window]]) -> Callable[[str, list[Any]], Heard]:
    """Return a function from a journal's fields to a :class:`Heard`; it refuses changed windows."""

    def revive(path: str, known: list[Any]) -> Heard:
        *facts, windows, sounds = known
        if [tuple(window) for window in windows] != list(windows_of.get(os.fspath(path), (WHOLE,))):
            raise ValueError("other windows")
        return _heard(Facts(*facts), tuple(map(tuple, windows)), tuple(Sound(*sound) for sound in sounds))

    return revive
