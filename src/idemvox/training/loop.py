"""Training a recipe into a folder, whatever fits its encoder."""

from __future__ import annotations

from pathlib import Path

from idemvox.errors import RunError
from idemvox.files import full_disk_named
from idemvox.recipe import Recipe
from idemvox.registry import ENCODERS, FITTERS
from idemvox.training.fitters.base import Fitter, Hooks, Trained
from idemvox.training.state.checkpoint import last_checkpoint
from idemvox.training.state.compatibility import refuse_another
from idemvox.training.watch.safety import memory_named

__all__ = ["train"]


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
        raise RunError(f"{folder} has a run in it: add --resume to go on, or choose another --out")
    if begun:
        refuse_another(recipe, folder / "recipe.yaml")
    with memory_named(recipe), full_disk_named(folder):
        fitter: Fitter = FITTERS[ENCODERS[recipe.encoder.name].fitter]()
        return fitter.fit(recipe, folder, resume=begun, progress=progress, hooks=hooks or Hooks())
