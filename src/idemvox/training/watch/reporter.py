"""Reports of a running training: a progress bar, log lines and a time estimate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress, TaskID
from torch import Tensor

from idemvox.corpus.corpus import is_pack
from idemvox.ranks import world
from idemvox.recipe import Recipe
from idemvox.training.data import Batches
from idemvox.training.watch.forecast import Forecast
from idemvox.training.watch.gauges import Log
from idemvox.training.watch.safety import Watch

__all__ = ["Reporter"]

_LOGGED = 20  # steps per epoch to log the loss of
_STALLED = 0.05  # lowest share of time spent waiting for audio that the bar shows


class Reporter:
    """Reports each batch, step and epoch of a run.

    Args:
        recipe: recipe of the run.
        batches: its batches.
        watch: gives the names of utterances.
        folder: folder of the log; ``None`` for a process that writes none.
        steps: steps of earlier epochs and attempts; the log is cut there.
        bar: progress bar, already on the terminal or disabled.
    """

    def __init__(
        self, recipe: Recipe, batches: Batches, watch: Watch, folder: Path | None, steps: int, bar: Progress
    ) -> None:
        self.recipe, self.batches, self.watch, self.bar = recipe, batches, watch, bar
        self.log = Log(folder, steps)
        self.forecast = Forecast(batches.device.type == "cuda")
        self._task: TaskID | None = None
        self._since, self._seen, self._steps = 0.0, 0, 0

    def close(self) -> None:
        """Close the log."""
        self.log.close()

    def beginning(self, corpora: Mapping[str, int]) -> None:
        """Print the names and sizes of the corpora if there are several."""
        if len(corpora) > 1 and not self.bar.disable:
            counts = ", ".join(f"{name} ({count:,} utterances)" for name, count in corpora.items())
            self.bar.console.print(f"corpora: {counts}", highlight=False)

    # -- the pass that fills the queues ----------------------------------------------------------------

    def filling(self, batches: int) -> None:
        """Start the pass, or resume it after this many batches."""
        done = batches * self.batches.batch * world()
        self._begin("filling the queues", self.batches.size, done)

    def filled(self, ids: Tensor) -> None:
        """Record a finished batch (B,) of this rank."""
        self._advance(len(ids) * world(), ids)
        self.forecast.tick("filling")

    # -- an epoch --------------------------------------------------------------------------------------

    def clustering(self) -> None:
        """Record that the positive sampler starts to prepare the epoch."""
        self.forecast.begin()

    def clustered(self) -> None:
        """Record that it has finished."""
        self.forecast.tick("clustering")

    def training(self, epoch: int, last: int, steps: int, done: int) -> None:
        """Start an epoch (from 0, of ``last``), or resume it after ``done`` steps."""
        self._steps = steps
        self._begin(f"{self.recipe.name} {epoch + 1}/{last}", steps, done)

    def stepped(
        self, epoch: int, step: int, ids: Tensor, loss: float | None, lr: float, left: Mapping[str, int]
    ) -> None:
        """Record a finished step.

        Args:
            epoch, step: both from 0.
            ids: (B,) this rank's utterances.
            loss: ``None`` for a skipped step.
            lr: learning rate.
            left: remaining units of each phase.
        """
        number, at = epoch * self._steps + step, epoch + (step + 1) / self._steps
        if loss is None:
            self.log.write("skipped", number, at=at, utterances=self.watch.named(ids))
        elif step % max(1, self._steps // _LOGGED) == 0:
            self.log.write("step", number, at=at, loss=loss, lr=lr)
        self._advance(1, ids, loss, self.batches.audio_wait.share())
        self.forecast.tick("training")
        if self.forecast.settled:
            self.forecast.say(left, None if self.bar.disable else self.bar.console)
            self.log.write("forecast", number, at=at, **self.forecast.seconds(left))

    def trained(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Record a finished epoch (from 0): log its numbers and print advice."""
        self.ended()
        packed = all(is_pack(path) for path in self.recipe.data.corpora)
        if advice := self.batches.audio_wait.advice(self.recipe.training.workers, packed):
            self.bar.console.print(f"epoch {epoch + 1}: {advice}")
        self.log.write("epoch", (epoch + 1) * self._steps - 1, at=epoch + 1, **numbers)

    # -- the bar ---------------------------------------------------------------------------------------

    def _begin(self, title: str, total: int, done: int) -> None:
        self._task = self.bar.add_task(title, total=total, completed=done, note="")
        self._since, self._seen = time.perf_counter(), 0
        self.forecast.begin()

    def ended(self) -> None:
        """Remove the bar of a finished pass or epoch."""
        if self._task is not None:
            self.bar.remove_task(self._task)
            self._task = None

    def _advance(self, units: int, ids: Tensor, loss: float | None = None, waiting: float = 0.0) -> None:
        """Advance the bar by units of all ranks; ``ids`` (B,) are this rank's utterances."""
        if self._task is None:
            return
        self._seen += len(ids) * world()
        rate = self._seen / max(time.perf_counter() - self._since, 1e-9)
        text = "" if loss is None else f"loss {loss:.3f}  "
        stalled = f" waiting for audio {waiting:.0%}" if waiting >= _STALLED else ""
        self.bar.update(self._task, advance=units, note=f"{text}{rate:.0f} utt/s{stalled}")
