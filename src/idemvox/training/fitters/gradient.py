"""Training by gradients: the remaining epochs of a run, and its model."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from rich.progress import Progress

from idemvox.progress import progress_bar
from idemvox.ranks import is_first
from idemvox.recipe import Recipe
from idemvox.registry import FITTERS
from idemvox.training.fitters.base import Hooks, Trained
from idemvox.training.run import Run
from idemvox.training.state.checkpoint import remove_partial
from idemvox.training.state.models import keep_best, save_run
from idemvox.training.state.provenance import epochs_behind
from idemvox.training.state.saving import Saver, Stop
from idemvox.training.watch.reporter import Reporter

__all__ = ["Gradient"]


@FITTERS.register("gradient")
class Gradient:
    """Trains an encoder within a framework; it saves on Ctrl-C and SIGTERM before ending."""

    def fit(self, recipe: Recipe, folder: Path, *, resume: bool, progress: bool, hooks: Hooks) -> Trained:
        run = Run(recipe)
        if is_first():
            recipe.save(folder / "recipe.yaml")
            remove_partial(folder / "checkpoints")
        if resume:
            run.resume(folder / "checkpoints")
        elif recipe.start_from is not None:
            run.start_from(recipe.start_from)
        stop = Stop()
        saver = Saver(folder / "checkpoints", recipe.training, stop, run.fabric.device)
        with stop.listening(), progress_bar(progress and is_first()) as bar:
            if run.done < recipe.training.epochs or epochs_behind(folder / "model") != run.behind:
                _finish(run, folder, saver, bar, hooks)
        best = folder / "best" if recipe.training.keep_best is not None else None
        return Trained(folder, folder / "model", run.behind, run.numbers, best)


def _finish(run: Run, folder: Path, saver: Saver, bar: Progress, hooks: Hooks) -> None:
    """Finish a run: its remaining epochs, each after a fill pass if one is due, and its model."""
    recipe = run.recipe
    taken = run.behind * run.steps + run.place.steps
    log_folder = folder if is_first() else None
    with closing(Reporter(recipe, run.batches, run.watch, log_folder, taken, bar)) as reporter:
        reporter.beginning(run.corpora)
        while run.done < recipe.training.epochs:
            if run.to_fill:
                reporter.filling(run.place.filled)
                for ids in run.fill():
                    reporter.filled(ids)
                    saver.pause(bar.console, run.done, run.state, ("fill", run.place.filled))
                reporter.ended()
            epoch = run.behind
            if run.place.steps == 0:
                reporter.clustering()
                run.prepare()
                reporter.clustered()
            reporter.training(epoch, run.last, run.steps, run.place.steps)
            for result in run.epoch():
                reporter.stepped(epoch, run.place.steps - 1, result.ids, result.loss, run.lr, run.left())
                hooks.on_step(run, result)
                if run.place.steps < run.steps:  # the last one is saved with the epoch's numbers
                    saver.pause(bar.console, run.done, run.state, ("step", run.place.steps))
            reporter.trained(epoch, run.numbers)
            if recipe.training.keep_best is not None and is_first():
                keep_best(run, folder / "best")
            hooks.on_epoch(run)
            saver.pause(bar.console, run.done, run.state)
        if is_first():
            save_run(run, folder / "model")
