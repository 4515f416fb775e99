"""One training loop for every framework and positive sampler."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import Progress
from torch import Tensor

from idemvox.batch import Batch, Step
from idemvox.errors import IdemvoxError
from idemvox.files import full_disk_named, read_json
from idemvox.model import save_model
from idemvox.modules import evaluating
from idemvox.positives.gathered import Gathered
from idemvox.ranks import gather, is_first, mean_gradients, world
from idemvox.ranks import mean as mean_of_ranks
from idemvox.recipe import Recipe, parse_recipe
from idemvox.registry import ENCODERS
from idemvox.training.assembly import assemble
from idemvox.training.data import OneAhead
from idemvox.training.em.ivector import fit_ivector
from idemvox.training.optimizer import clip_each, learning_rate
from idemvox.training.state.checkpoint import FORMAT, last_checkpoint, read_newest, remove_partial
from idemvox.training.state.compatibility import changed_keys, refuse_another, refuse_other_labels
from idemvox.training.state.progress import Place
from idemvox.training.state.provenance import provenance
from idemvox.training.state.saving import Saver, Stop
from idemvox.training.state.start_from import begin_from
from idemvox.training.watch.forecast import Forecast
from idemvox.training.watch.gauges import Log, mean, note, progress_bar
from idemvox.training.watch.safety import Watch, memory_named

__all__ = ["Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run leaves: its folders, the epochs behind its weights, and the last epoch's numbers."""

    folder: Path
    model: Path
    epochs: int
    numbers: dict[str, float]


def train(recipe: Recipe, folder: Path, *, resume: bool = False, progress: bool = True) -> Trained:
    """Run a recipe into ``folder``.

    That gets recipe.yaml, log.jsonl, curves.csv, tensorboard/, checkpoints/ and model/.

    A checkpoint is written after each epoch, within one every ``training.save_minutes``, and on Ctrl-C or
    SIGTERM, which then end the run.  With ``resume`` it goes on from the newest sound one (or begins, where
    there is none), bit for bit as if it had never stopped (on the same device, with as many processes and
    threads); a finished run is left as it is.  For i-vectors an epoch is an iteration of EM.

    Args:
        recipe: what to do; ``data.manifest`` must be set.
        folder: of the run.
        resume: go on with what is there.
        progress: show a bar.

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
        run = _Run(recipe, folder)
        if is_first():
            recipe.save(folder / "recipe.yaml")
            remove_partial(folder / "checkpoints")
        if begun:
            run.restore(read_newest(folder / "checkpoints", objection=run.objection))
        elif recipe.start_from is not None:
            run.start_from(recipe.start_from)
        with run.stop.listening(), progress_bar(progress and is_first()) as bar:
            return run.run(bar)


class _Seen(NamedTuple):
    """A batch whose gradient has been taken: its ids and references, and what the framework returned."""

    ids: Tensor
    reference: Tensor | None
    step: Step


class _Run:
    """A run under way; a step of it is the optimiser's, of ``training.accumulate`` batches."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        parts = assemble(recipe)
        self.fabric, self.framework, self.positives = parts.fabric, parts.framework, parts.positives
        self.optimizer, self.batches, self.gauge = parts.optimizer, parts.batches, parts.gauge
        self.packed, self.corpora = parts.packed, dict(parts.corpora)
        self.labels = parts.classes.sha256 if parts.classes else None
        self.steps = self.batches.steps // recipe.training.accumulate  # of an epoch
        if not self.steps:
            raise IdemvoxError(
                f"an epoch has {self.batches.steps} batches, fewer than training.accumulate="
                f"{recipe.training.accumulate}; lower it, or training.batch"
            )
        self.swap = Gathered(self.positives)
        self.first = 0  # epochs that the starting weights have behind them
        self.done = 0  # epochs of this run
        self.filled = False
        self.place = Place()
        self.numbers: dict[str, float] = {}
        self.stop = Stop()
        self.saver = Saver(folder / "checkpoints", recipe.training, self.stop, self.fabric.device)
        self.watch = Watch(self.framework, recipe.training, parts.names)
        self.forecast = Forecast(self.fabric.device.type == "cuda")

    # -- beginning -------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on."""
        return {
            "format": FORMAT,
            "framework": self.framework.state_dict(),
            "positives": self.positives.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "first": self.first,
            "done": self.done,
            "framework_name": self.recipe.framework.name,
            "optimizer_name": self.recipe.training.optimizer,
            "numbers": self.numbers,
            "filled": self.filled,
            "place": self.place.state(),
            "gauge": self.gauge.state(),
            "watch": self.watch.state(),
            "recipe": self.recipe.model_dump(mode="json"),
            "utterances": self.batches.size,
            "corpora": self.corpora,
            "labels": self.labels,
        }

    def objection(self, state: dict[str, Any]) -> str | None:
        """Say why a state is of another run, if it is."""
        its = state.get("utterances", self.batches.size)
        if its != self.batches.size:
            return f"is of {its} utterances, data.manifest has {self.batches.size}"
        theirs, ours = (
            list(corpora.values()) for corpora in (state.get("corpora", self.corpora), self.corpora)
        )
        if theirs != ours:
            return f"is of corpora of {theirs} utterances, those of data.manifest have {ours}"
        changed = changed_keys(self.recipe, parse_recipe(state["recipe"])) if "recipe" in state else []
        return f"is of another run: its recipe differs in {', '.join(changed)}" if changed else None

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        refuse_other_labels(self.recipe, state.get("labels"), self.labels)
        self.framework.load_state_dict(state["framework"])
        self.positives.load_state_dict(state["positives"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.first, self.done, self.numbers = state["first"], state["done"], state["numbers"]
        self.filled = state.get("filled", True)  # before checkpoints within an epoch, all were of whole ones
        if "place" in state:
            self.place = Place.restored(state["place"], self.fabric.device)
            self.gauge.restore(state["gauge"])
            self.watch.restore(state["watch"])

    def start_from(self, source: Path) -> None:
        """Begin with another run's work."""
        self.first = begin_from(source, self.recipe, self.framework, self.optimizer)

    # -- running ---------------------------------------------------------------------------------------

    def run(self, bar: Progress) -> Trained:
        epochs, model = self.recipe.training.epochs, self.folder / "model"
        if self.done < epochs or not self.saved(model):
            if len(self.corpora) > 1 and not bar.disable:
                counts = ", ".join(f"{name} ({count:,} utterances)" for name, count in self.corpora.items())
                bar.console.print(f"corpora: {counts}", highlight=False)
            step = (self.first + self.done) * self.steps + self.place.steps
            log = Log(self.folder if is_first() else None, step)
            try:
                while self.done < epochs:
                    if self.to_fill:
                        self.fill(bar)
                    self.numbers = self.epoch(self.first + self.done, bar, log)
                    self.done, self.place = self.done + 1, Place()
                    self.saver.pause(bar.console, self.done, self.state)
                if is_first():
                    self.save(model)
            finally:
                log.close()
        return Trained(self.folder, model, self.first + self.done, self.numbers)

    @property
    def to_fill(self) -> bool:
        """Whether the pass that fills the queues comes next, or its rest."""
        begun = self.place.steps > 0
        return self.positives.needs_fill and not begun and (self.positives.refresh or not self.filled)

    def left(self) -> dict[str, int]:
        """Return the batches of fill passes, the clusterings and the steps that are still to be done."""
        epochs, begun = self.recipe.training.epochs - self.done, self.place.steps > 0
        passes, clusterings = 0, 0
        if self.positives.needs_fill:
            clusterings = epochs - begun
            passes = clusterings if self.positives.refresh else int(self.to_fill)
        batches = passes * math.ceil(self.batches.size / (self.batches.batch * self.batches.world))
        return {
            "filling": batches - self.place.filled * self.to_fill,
            "clustering": clusterings,
            "training": epochs * self.steps - self.place.steps,
        }

    def saved(self, model: Path) -> bool:
        """Return whether the model folder is of these weights, not of those of fewer epochs."""
        file = model / "model.json"
        found = read_json(file).get("provenance", {}) if file.is_file() else {}
        return bool(found.get("epochs") == self.first + self.done)

    def save(self, model: Path) -> None:
        """Write the model folder."""
        recipe = self.recipe
        told = provenance(
            recipe,
            self.first + self.done,
            self.batches.size,
            self.labels,
            corpora=self.corpora,
            framework=recipe.framework.model_dump(),
            positives=recipe.positives.model_dump(),
        )
        embedder, scoring = self.framework.embedder, self.framework.scoring
        save_model(model, embedder, recipe.encoder, recipe.frontend, told, scoring=scoring)

    def reference(self, batch: Batch) -> Tensor:
        """Represent the clean reference views (B, dim), in eval mode and without a gradient."""
        with evaluating(self.framework.embedder), self.fabric.autocast():
            reference: Tensor = self.framework.embedder(batch.views["reference"][:, 0])
            return reference

    def fill(self, bar: Progress) -> None:
        """Pass over the corpus once, forward only, so that both queues are full before an epoch."""
        task = bar.add_task("filling the queues", total=self.batches.size, note="")
        bar.advance(task, self.place.filled * self.batches.batch * world())
        began, seen = time.perf_counter(), 0
        self.forecast.begin()
        views = None if self.positives.stores else ["reference"]
        for batch in self.batches.every(self.first + self.done, self.place.filled, views):
            if "reference" in batch.views:
                self.swap.observe(batch.ids, self.reference(batch))
            if self.positives.stores:
                with evaluating(self.framework), self.fabric.autocast():
                    self.swap.store(batch.ids, self.framework.target(batch))
            seen += len(batch.ids) * world()
            note(bar, task, len(batch.ids) * world(), None, began, seen)
            self.place.filled += 1
            self.forecast.tick("filling")
            self.saver.pause(bar.console, self.done, self.state, ("fill", self.place.filled))
        bar.remove_task(task)
        self.filled = True

    def epoch(self, epoch: int, bar: Progress, log: Log) -> dict[str, float]:
        """Train one epoch and return its numbers."""
        training, batches, place, steps = self.recipe.training, self.batches, self.place, self.steps
        if place.steps == 0:
            self.forecast.begin()
            place.numbers = self.positives.start_epoch(epoch)
            place.numbers |= self.gauge.clusters(self.positives.partition())
            place.numbers |= self.gauge.partners(self.positives.partners(epoch))
            self.forecast.tick("clustering")
            self.watch.skipped = 0
        self.framework.train()
        self.framework.start_epoch(epoch)
        last = self.first + training.epochs
        planned = training.schedule_epochs or last
        task = bar.add_task(f"{self.recipe.name} {epoch + 1}/{last}", total=steps, note="")
        bar.advance(task, place.steps)
        began, seen = time.perf_counter(), 0
        self.forecast.begin()
        ahead = self.fabric.device.type == "cuda"
        coming = OneAhead(batches.epoch(epoch, self.positives, place.steps * training.accumulate), ahead)
        for step in range(place.steps, steps):
            lr = learning_rate(training, epoch, step, steps, planned)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            at, number = epoch + (step + 1) / steps, epoch * steps + step
            some = islice(coming, training.accumulate)
            ids, loss = self.learn(some, epoch, (number + 1) / (planned * steps), coming.prepare)
            if loss is None:
                log.write("skipped", number, at=at, utterances=self.watch.named(ids))
            elif step % max(1, steps // 20) == 0:
                log.write("step", number, at=at, loss=loss, lr=lr)
            seen += len(ids) * world()
            note(bar, task, 1, loss, began, seen, batches.stalls.share())
            place.steps += 1
            self.forecast.tick("training")
            if self.forecast.settled:
                self.forecast.say(self.left(), None if bar.disable else bar.console)
                log.write("forecast", number, at=at, **self.forecast.seconds(self.left()))
            if place.steps < steps:  # after the last one, the epoch's numbers go along
                self.saver.pause(bar.console, self.done, self.state, ("step", place.steps))
        bar.remove_task(task)
        seconds = time.perf_counter() - began
        numbers = place.numbers | {name: mean(values) for name, values in place.sums.items()}
        numbers |= {
            "utterances_per_second": seen / seconds,
            "waiting_for_audio": batches.stalls.share(),
            "lr": lr,
            **self.gauge.result(),
        }
        if self.watch.skipped:
            numbers["skipped"] = self.watch.skipped
        if advice := batches.stalls.advice(training.workers, self.packed):
            bar.console.print(f"epoch {epoch + 1}: {advice}")
        log.write("epoch", (epoch + 1) * steps - 1, at=epoch + 1, **numbers)
        return numbers

    def learn(
        self,
        batches: Iterable[Batch],
        epoch: int,
        progress: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[Tensor, float | None]:
        """Take one step with the mean gradient of some batches.

        Args:
            batches: of this step.
            epoch: from 0.
            progress: share of the schedule that is done after this step.
            meanwhile: called while a device still works on the gradient; it may give it more to do.

        Returns:
            The utterances (B,) of this rank, and the loss: ``None`` where it, or a gradient, was not finite
            and nothing was learnt.
        """
        self.watch.begin()
        seen = [self.differentiate(batch) for batch in batches]
        ids = torch.cat([one.ids for one in seen])
        loss = mean_of_ranks(torch.stack([one.step.loss.detach() for one in seen]).mean())
        mean_gradients(self.framework.parameters())
        found = self.watch.look(loss, self.framework.parameters())
        meanwhile()
        where = f"epoch {epoch + 1}, step {self.place.steps + 1}"
        known = self.watch.learn_from(found, ids, where)
        if known is None:
            self.optimizer.zero_grad(set_to_none=True)
            return ids, None
        self.framework.after_backward(epoch)
        if self.recipe.training.clip:
            clip_each(self.framework.parameters(), self.recipe.training.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.framework.after_step(progress)
        for one in seen:
            if one.reference is not None:
                self.swap.observe(one.ids, one.reference)
            if one.step.swap is not None:
                self.swap.learnt(one.ids, one.step.swap)
                self.gauge.update(gather(one.ids), one.step.swap)
        self.place.sums["loss"].append(loss)
        for name in seen[0].step.metrics:
            values = torch.stack([one.step.metrics[name].detach() for one in seen])
            self.place.sums[name].append(mean_of_ranks(values.mean()))
        return ids, known

    def differentiate(self, batch: Batch) -> _Seen:
        """Add a batch's part of the gradient."""
        reference = self.reference(batch) if "reference" in batch.views else None
        with self.fabric.autocast():  # Fabric's wrapper would round the waveforms to bf16 too
            step = self.framework(batch, self.swap)
        self.fabric.backward(step.loss / self.recipe.training.accumulate)
        return _Seen(batch.ids, reference, step.detached())
