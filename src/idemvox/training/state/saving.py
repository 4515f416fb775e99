"""Saving a run in time, and stopping it on a signal."""

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
    """A request by Ctrl-C or SIGTERM to save and stop; a second one stops the run at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals that have no other handler; after the block, end as the signal would have.

        Only the main thread can; in other threads signals keep their usual effect.
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
            os.kill(os.getpid(), signal.SIGTERM)  # so that the parent sees which signal ended this process
        if self.asked:
            raise KeyboardInterrupt


class Saver:
    """Writes a run's checkpoints: after each epoch, within an epoch when due, and before stopping.

    All ranks pause together; only rank 0 writes.
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
        """Save if due; stop if requested.

        Args:
            console: for the message on stopping.
            epochs: number of finished epochs.
            state: returns the state to save.
            within: progress in the next epoch: batches of its fill pass, or steps; ``None`` between epochs.

        Raises:
            KeyboardInterrupt: if the run is to stop.
        """
        due = within is None or self._due(within[1])
        stop, due = any_rank([self.stop.asked, due], self.device)
        if not (stop or due):
            return
        if is_first():
            path = save_checkpoint(self.folder, epochs, state(), self.training.keep, within)
        self._saved = time.monotonic()
        if stop:
            any_rank(
                [], self.device
            )  # wait until rank 0 has written, because the end of one rank may end all
            if is_first():
                console.print(
                    f"stopped; everything is saved in {path}, --resume resumes from there", highlight=False
                )
            raise KeyboardInterrupt

    def _due(self, count: int) -> bool:
        steps = self.training.save_steps
        late = time.monotonic() - self._saved >= 60 * self.training.save_minutes
        return late or (steps is not None and count % steps == 0)
