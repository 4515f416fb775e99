"""Training from its beginning, or from where it was stopped, to the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from idemvox.errors import IdemvoxError
from idemvox.files import full_disk_named
from idemvox.progress import progress_bar
from idemvox.ranks import is_first
from idemvox.recipe import Recipe
from idemvox.registry import ENCODERS
from idemvox.training.em.ivector import fit_ivector
from idemvox.training.run import Run, StepResult
from idemvox.training.state.checkpoint import last_checkpoint, remove_partial
from idemvox.training.state.compatibility import refuse_another
from idemvox.training.state.provenance import epochs_behind, save_trained
from idemvox.training.state.saving import Saver, Stop
from idemvox.training.watch.reporter import Reporter
from idemvox.training.watch.safety import memory_named

__all__ = ["Hooks", "Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run leaves: its folders, the epochs behind its weights, and the last epoch's numbers."""

    folder: Path
    model: Path
    epochs: int
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a caller of :func:`train` wants done in passing; what a hook raises ends the run.

    Attributes:
        on_step: called after each step with the run and what the step was.
        on_epoch: called after each epoch with the run, whose ``numbers`` are then that epoch's.
    """

    on_step: Callable[[Run, StepResult], None] = lambda run, result: None
    on_epoch: Callable[[Run], None] = lambda run: None


def train(
    recipe: Recipe, folder: Path, *, resume: bool = False, progress: bool = True, hooks: Hooks | None = None
) -> Trained:
    """Run a recipe into ``folder``.

    That gets recipe.yaml, log.jsonl, curves.csv, tensorboard/, checkpoints/ and model/.

    A checkpoint is written after each epoch, within one every ``training.save_minutes``, and on Ctrl-C or
    SIGTERM, which then end the run.  With ``resume`` it resumes from the newest sound one (or begins, where
    there is none), bit for bit as if it had never stopped (on the same device, with as many processes and
    threads); a finished run is left as it is.  For i-vectors an epoch is an iteration of EM.

    Args:
        recipe: what to do; ``data.manifest`` must be set.
        folder: of the run.
        resume: continue what is there.
        progress: show a bar.
        hooks: called as training by gradients goes by.

    Raises:
        IdemvoxError: if the folder holds another run's work, the recipe does not fit the manifest, disk or
            memory is full, or training has diverged or collapsed.
        KeyboardInterrupt: after Ctrl-C; SIGTERM ends the process.
    """
    begun = last_checkpoint(folder / "checkpoints") is not None
    if begun and not resume:
        raise IdemvoxError(f"{folder} has a run in it: add --resume to go on, or choose another --out")
    if begun:
        refuse_another(recipe, folder / "recipe.yaml")
    with memory_named(recipe), full_disk_named(folder):
        if ENCODERS[recipe.encoder.name].fitted:
            return Trained(folder, folder / "model", *fit_ivector(recipe, folder, progress=progress))
        run = Run(recipe)
        if is_first():
            recipe.save(folder / "recipe.yaml")
            remove_partial(folder / "checkpoints")
        if begun:
            run.resume(folder / "checkpoints")
        elif recipe.start_from is not None:
            run.start_from(recipe.start_from)
        stop = Stop()
        saver = Saver(folder / "checkpoints", recipe.training, stop, run.fabric.device)
        with stop.listening(), progress_bar(progress and is_first()) as bar:
            if run.done < recipe.training.epochs or epochs_behind(folder / "model") != run.behind:
                _finish(run, folder, saver, bar, hooks or Hooks())
        return Trained(folder, folder / "model", run.behind, run.numbers)


def _finish(run: Run, folder: Path, saver: Saver, bar: Progress, hooks: Hooks) -> None:
    """Do what is left of a run: its epochs, each after a fill pass where one is due, and its model."""
    recipe = run.recipe
    taken = run.behind * run.steps + run.place.steps
    told = folder if is_first() else None
    with closing(Reporter(recipe, run.batches, run.watch, told, taken, bar)) as reporter:
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
                if run.place.steps < run.steps:  # after the last one, the epoch's numbers go along
                    saver.pause(bar.console, run.done, run.state, ("step", run.place.steps))
            reporter.trained(epoch, run.numbers)
            hooks.on_epoch(run)
            saver.pause(bar.console, run.done, run.state)
        if is_first():
            save_trained(
                folder / "model",
                run.framework.embedder,
                recipe,
                scoring=run.framework.scoring,
                epochs=run.behind,
                utterances=run.batches.size,
                labels=run.labels,
                corpora=run.corpora,
            )
