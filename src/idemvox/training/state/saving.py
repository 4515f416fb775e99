"""When a run is saved, and how it is stopped."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from idemvox.ranks import any_rank, is_first
from idemvox.recipe import Training
from idemvox.training.state.checkpoint import save_checkpoint

__all__ = ["Saver", "Stop"]

_USUAL: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}


class Stop:
    """Whether Ctrl-C or SIGTERM asks a run to save its state and stop; a second one stops it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals that nobody else does; when the block has ended, end as the signal would have.

        Only a main thread can; in any other, signals do what they always do.
        """
        main = threading.current_thread() is threading.main_thread()
        taken = [number for number, usual in _USUAL.items() if main and signal.getsignal(number) == usual]
        for number in taken:
            signal.signal(number, self._ask)
        try:
            try:
                yield
            finally:
                for number in taken:
                    signal.signal(number, _USUAL[number])
        except KeyboardInterrupt:
            self._end()
            raise
        self._end()

    def _ask(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.signal = number

    def _end(self) -> None:
        if self.signal == signal.SIGTERM:
            os.kill(os.getpid(), signal.SIGTERM)  # so that whoever waits for this process sees what ended it
        if self.asked:
            raise KeyboardInterrupt


class Saver:
    """Writes a run's checkpoints: after each epoch, within one when that is due, and before stopping.

    All ranks pause together, and the first one writes.
    """

    def __init__(self, folder: Path, training: Training, stop: Stop, device: torch.device) -> None:
        self.folder, self.training, self.stop, self.device = folder, training, stop, device
        self._saved = time.monotonic()

    def pause(
        self,
        console: Console,
        epochs: int,
        state: Callable[[], dict[str, Any]],
        within: tuple[Literal["fill", "step"], int] | None = None,
    ) -> None:
        """Save if it is time; stop if that is asked.

        Args:
            console: told where all is saved, before stopping.
            epochs: done.
            state: makes what is saved.
            within: how far the next epoch is: batches of its fill pass, or steps; ``None`` after a whole one.

        Raises:
            KeyboardInterrupt: to stop.
        """
        due = within is None or self._due(within[1])
        stop, due = any_rank([self.stop.asked, due], self.device)
        if not (stop or due):
            return
        if is_first():
            path = save_checkpoint(self.folder, epochs, state(), self.training.keep, within)
        self._saved = time.monotonic()
        if stop:
            any_rank([], self.device)  # until the first has written; what ends one rank may end all
            if is_first():
                console.print(
                    f"stopped; all is saved in {path}, --resume goes on from there", highlight=False
                )
            raise KeyboardInterrupt

    def _due(self, count: int) -> bool:
        steps = self.training.save_steps
        late = time.monotonic() - self._saved >= 60 * self.training.save_minutes
        return late or (steps is not None and count % steps == 0)
