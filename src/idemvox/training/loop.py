"""One training loop for every framework and positive sampler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor

from idemvox.errors import IdemvoxError
from idemvox.frameworks.base import Batch
from idemvox.model import load_model, save_model
from idemvox.positives.gathered import Gathered
from idemvox.processes import command_line
from idemvox.ranks import gather, is_first, mean_gradients, world
from idemvox.ranks import mean as mean_of_ranks
from idemvox.recipe import Recipe, load_recipe
from idemvox.registry import ENCODERS
from idemvox.training.assembly import assemble
from idemvox.training.checkpoint import last_checkpoint, load_checkpoint, save_checkpoint
from idemvox.training.gauges import Log, mean, note, progress_bar
from idemvox.training.ivector import fit_ivector
from idemvox.training.optimizer import clip_each, learning_rate

__all__ = ["Trained", "train"]

_MAY_DIFFER = {"description", "training.epochs", "training.workers", "training.keep", "training.device"}


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run leaves: its folders, the epochs behind its weights, and the last epoch's numbers."""

    folder: Path
    model: Path
    epochs: int
    numbers: dict[str, float]


def train(recipe: Recipe, folder: Path, *, resume: bool = False, progress: bool = True) -> Trained:
    """Run a recipe into ``folder``: recipe.yaml, log.jsonl, tensorboard/, checkpoints/ and model/.

    A checkpoint is written after each epoch.  With ``resume`` the run goes on from its last one (or begins,
    where there is none); a finished run is left as it is.  For i-vectors an epoch is an iteration of EM.

    Args:
        recipe: what to do; ``data.manifest`` must be set.
        folder: of the run.
        resume: go on with what is there.
        progress: show a bar.

    Raises:
        IdemvoxError: if the folder holds another run's work, or the recipe does not fit the manifest.
    """
    checkpoint = last_checkpoint(folder / "checkpoints")
    if checkpoint is not None and not resume:
        raise IdemvoxError(f"{folder} has a run in it: add --resume to go on, or choose another --out")
    if checkpoint is not None:
        _same_recipe(recipe, folder / "recipe.yaml")
    if ENCODERS[recipe.encoder.name].fitted:
        return Trained(folder, folder / "model", *fit_ivector(recipe, folder, progress=progress))
    run = _Run(recipe, folder)
    if is_first():
        recipe.save(folder / "recipe.yaml")
    if checkpoint is not None:
        run.restore(load_checkpoint(checkpoint))
    elif recipe.start_from is not None:
        run.start_from(recipe.start_from)
    with progress_bar(progress and is_first()) as bar:
        return run.run(bar)


def _same_recipe(recipe: Recipe, saved: Path) -> None:
    """Refuse to resume with a recipe that differs where it matters."""
    if not saved.is_file():
        return
    changed = [
        key
        for key in recipe.differences(load_recipe(saved))
        if key not in _MAY_DIFFER and not key.startswith("published")
    ]
    training, before = recipe.training, load_recipe(saved).training
    if (
        training.schedule == "cosine"
        and training.schedule_epochs is None
        and training.epochs != before.epochs
    ):
        raise IdemvoxError(
            f"cannot resume {saved.parent} with training.epochs={training.epochs}: its cosine schedule was "
            f"laid out for {before.epochs}, as it has no training.schedule_epochs; give the same epochs"
        )
    if changed:
        raise IdemvoxError(
            f"cannot resume {saved.parent}: the recipe differs in {', '.join(changed)}; "
            "give the same values, or another --out"
        )


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module in eval mode without gradients, and back as it was: clean views touch no statistics."""
    was = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was)


class _Run:
    """A run under way."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        parts = assemble(recipe)
        self.fabric, self.framework, self.positives = parts.fabric, parts.framework, parts.positives
        self.optimizer, self.batches, self.gauge = parts.optimizer, parts.batches, parts.gauge
        self.packed = parts.packed
        self.swap = Gathered(self.positives)
        self.first = 0  # epochs that the starting weights have behind them
        self.done = 0  # epochs of this run
        self.filled = False
        self.numbers: dict[str, float] = {}

    # -- beginning -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        return {
            "framework": self.framework.state_dict(),
            "positives": self.positives.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "first": self.first,
            "done": self.done,
            "framework_name": self.recipe.framework.name,
            "optimizer_name": self.recipe.training.optimizer,
            "numbers": self.numbers,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.framework.load_state_dict(state["framework"])
        self.positives.load_state_dict(state["positives"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.first, self.done, self.filled = state["first"], state["done"], True
        self.numbers = state["numbers"]

    def start_from(self, source: Path) -> None:
        """Begin with another run's work.

        The same framework goes on whole, with its heads, optimiser and place in the schedule (the paper's
        SSPS phase); another framework, or a model folder, gives only the encoder's weights.
        """
        checkpoint = last_checkpoint(source / "checkpoints")
        state = load_checkpoint(checkpoint) if checkpoint else {}
        try:
            if state.get("framework_name") == self.recipe.framework.name:
                self.framework.load_state_dict(state["framework"])
                if state["optimizer_name"] == self.recipe.training.optimizer:
                    decay = [group["weight_decay"] for group in self.optimizer.param_groups]
                    self.optimizer.load_state_dict(state["optimizer"])
                    for group, value in zip(self.optimizer.param_groups, decay, strict=True):
                        group["weight_decay"] = value  # this recipe's, not the other run's
                self.first = state["first"] + state["done"]
            else:
                encoder = load_model(source).encoder
                theirs, ours = encoder.frontend.settings, self.framework.encoder.frontend.settings
                if theirs != ours:
                    raise IdemvoxError(
                        f"start_from {source}: its encoder has learnt from {theirs}, this recipe gives it "
                        f"{ours}; set the same `frontend`"
                    )
                self.framework.begin_with(encoder.state_dict())
        except (RuntimeError, ValueError) as error:
            raise IdemvoxError(
                f"start_from {source}: its weights do not fit this recipe's encoder or heads; set the same "
                f"`encoder` and `framework` options, or give its model folder, for the encoder alone "
                f"({shorten(str(error), 300)})"
            ) from error

    # -- running ---------------------------------------------------------------------------------------

    def run(self, bar: Progress) -> Trained:
        epochs, model = self.recipe.training.epochs, self.folder / "model"
        if self.done < epochs or not (model / "model.json").is_file():
            log = Log(self.folder, is_first())
            try:
                while self.done < epochs:
                    if self.positives.needs_fill and (self.positives.refresh or not self.filled):
                        self.fill(bar)
                    self.numbers = self.epoch(self.first + self.done, bar, log)
                    self.done += 1
                    if is_first():
                        keep = self.recipe.training.keep
                        save_checkpoint(self.folder / "checkpoints", self.done, self.state(), keep)
                if is_first():
                    self.save(model)
            finally:
                log.close()
        return Trained(self.folder, model, self.first + self.done, self.numbers)

    def save(self, model: Path) -> None:
        """Write the model folder."""
        save_model(
            model,
            self.framework.embedder,
            self.recipe.encoder,
            self.recipe.frontend,
            {
                "recipe": self.recipe.name,
                "framework": self.recipe.framework.model_dump(),
                "positives": self.recipe.positives.model_dump(),
                "seed": self.recipe.seed,
                "epochs": self.first + self.done,
                "utterances": self.batches.size,
                "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
                "idemvox": version("idemvox"),
                "torch": torch.__version__,
                "command": command_line(),
            },
        )

    def reference(self, batch: Batch) -> Tensor:
        """Represent the clean reference views (B, dim), in eval mode and without a gradient."""
        with evaluating(self.framework.embedder), self.fabric.autocast():
            reference: Tensor = self.framework.embedder(batch.views["reference"][:, 0])
            return reference

    def fill(self, bar: Progress) -> None:
        """Pass over the corpus once, forward only, so that both queues are full before an epoch."""
        task = bar.add_task("filling the queues", total=self.batches.size, note="")
        began, seen = time.perf_counter(), 0
        for batch in self.batches.every(self.first + self.done):
            if "reference" in batch.views:
                self.swap.observe(batch.ids, self.reference(batch))
            with evaluating(self.framework), self.fabric.autocast():
                self.swap.store(batch.ids, self.framework.target(batch))
            seen += len(batch.ids) * world()
            note(bar, task, len(batch.ids) * world(), None, began, seen)
        bar.remove_task(task)
        self.filled = True

    def epoch(self, epoch: int, bar: Progress, log: Log) -> dict[str, float]:
        """Train one epoch and return its numbers."""
        training, batches = self.recipe.training, self.batches
        numbers = self.positives.start_epoch(epoch)
        self.framework.train()
        self.framework.start_epoch(epoch)
        last = self.first + training.epochs
        planned = training.schedule_epochs or last
        task = bar.add_task(f"{self.recipe.name} {epoch + 1}/{last}", total=batches.steps, note="")
        began, seen = time.perf_counter(), 0
        sums: dict[str, list[Tensor]] = defaultdict(list)
        for step, batch in enumerate(batches.epoch(epoch, self.positives)):
            if "reference" in batch.views:
                self.swap.observe(batch.ids, self.reference(batch))
            lr = learning_rate(training, epoch, step, batches.steps, planned)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            with self.fabric.autocast():  # Fabric's wrapper would round the waveforms to bf16 too
                result = self.framework(batch, self.swap)
            loss = mean_of_ranks(result.loss)
            if not torch.isfinite(loss):
                raise IdemvoxError(
                    f"the loss is not finite at epoch {epoch + 1}, step {step + 1} (utterances "
                    f"{batch.ids[:8].tolist()}...); lower training.lr, or use training.precision=fp32"
                )
            self.fabric.backward(result.loss)
            mean_gradients(self.framework.parameters())
            self.framework.after_backward(epoch)
            if training.clip:
                clip_each(self.framework.parameters(), training.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.framework.after_step((epoch * batches.steps + step + 1) / (planned * batches.steps))
            if self.positives.chosen is not None:
                self.gauge.update(gather(batch.ids), self.positives.chosen, self.positives.replaced)
            sums["loss"].append(loss)
            for name, value in result.metrics.items():
                sums[name].append(mean_of_ranks(value))
            seen += len(batch.ids) * world()
            note(bar, task, 1, loss, began, seen, batches.stalls.share())
            if step % max(1, batches.steps // 20) == 0:
                at = epoch + (step + 1) / batches.steps
                log.write("step", epoch * batches.steps + step, at=at, loss=float(loss), lr=lr)
        bar.remove_task(task)
        seconds = time.perf_counter() - began
        numbers |= {name: mean(values) for name, values in sums.items()}
        numbers |= {
            "utterances_per_second": seen / seconds,
            "waiting_for_audio": batches.stalls.share(),
            "lr": lr,
            **self.gauge.result(),
        }
        if advice := batches.stalls.advice(training.workers, self.packed):
            bar.console.print(f"epoch {epoch + 1}: {advice}")
        log.write("epoch", (epoch + 1) * batches.steps, at=epoch + 1, **numbers)
        return numbers
