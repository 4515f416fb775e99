"""Training a recipe into a run folder."""

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
    recipe: Recipe,
    folder: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    hooks: Hooks | None = None,
) -> Trained:
    """Train a recipe into ``folder``.

    The folder gets recipe.yaml, log.jsonl, curves.csv, tensorboard/, checkpoints/ and model/.

    A checkpoint is written after each epoch, within an epoch every ``training.save_minutes``, and on Ctrl-C
    or SIGTERM, which then end the run. With ``resume`` training resumes from the newest valid checkpoint (or
    starts, if there is none), bit for bit as if it had never stopped, on the same device with the same number
    of processes and threads. A finished run is left unchanged. For i-vectors an epoch is an iteration of EM.

    Args:
        recipe: the recipe; ``data.manifest`` must be set.
        folder: run folder.
        resume: resume the run in the folder.
        progress: show a progress bar.
        hooks: called during training by gradients.

    Raises:
        IdemvoxError: the folder holds another run, the recipe does not fit the manifest, disk or memory is
            full, or training has diverged or collapsed.
        KeyboardInterrupt: after Ctrl-C; SIGTERM ends the process.
    """
    folder = Path(folder)
    started = last_checkpoint(folder / "checkpoints") is not None
    if started and not resume:
        raise RunError(f"{folder} already holds a run: add --resume to resume it, or choose another --out")
    if started:
        refuse_another(recipe, folder / "recipe.yaml")
    with memory_named(recipe), full_disk_named(folder):
        fitter: Fitter = FITTERS[ENCODERS[recipe.encoder.name].fitter]()
        return fitter.fit(recipe, folder, resume=started, progress=progress, hooks=hooks or Hooks())
