"""A training run: fill, epoch, step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from idemvox.batch import Batch, Step
from idemvox.errors import RecipeError
from idemvox.modules import evaluating
from idemvox.positives.gathered import Gathered
from idemvox.ranks import gather, is_first, mean_gradients, world
from idemvox.ranks import mean as mean_of_ranks
from idemvox.recipe import Recipe
from idemvox.training.assembly import assemble
from idemvox.training.data import OneAhead
from idemvox.training.optimizer import clip_each, learning_rate
from idemvox.training.state.checkpoint import FORMAT, read_newest
from idemvox.training.state.compatibility import objection, refuse_other_classes, refuse_other_labels
from idemvox.training.state.progress import Place
from idemvox.training.state.start_from import begin_from
from idemvox.training.watch.held_out import HeldOut
from idemvox.training.watch.safety import Watch

__all__ = ["Run", "StepResult"]


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a step.

    Attributes:
        ids: (B,) this rank's utterances.
        loss: mean loss over ranks; ``None`` for a skipped step.
    """

    ids: Tensor
    loss: float | None


class _Part(NamedTuple):
    """A batch after its backward pass: ids, references, and the framework's result."""

    ids: Tensor
    reference: Tensor | None
    step: Step


class Run:
    """A training run: the parts that a recipe describes, and the progress.

    :meth:`fill` and :meth:`epoch` are iterators over batches and steps, so the caller sees each one and may
    stop after any. They write nothing to disk.

    >>> run = Run(recipe)  # doctest: +SKIP
    >>> for _ in run.fill(): ...
    >>> run.prepare()
    >>> losses = [result.loss for result in run.epoch()]
    """

    def __init__(self, recipe: Recipe) -> None:
        """Assemble the parts that a recipe describes.

        Raises:
            IdemvoxError: the parts do not fit each other or the corpus.
        """
        self.recipe = recipe
        parts = assemble(recipe)
        self.fabric, self.framework, self.positives = parts.fabric, parts.framework, parts.positives
        self.optimizer, self.batches, self.gauge = parts.optimizer, parts.batches, parts.gauge
        self.steps = self.batches.steps // recipe.training.accumulate
        """Optimiser steps per epoch, each of ``training.accumulate`` batches."""
        if not self.steps:
            raise RecipeError(
                f"an epoch has {self.batches.steps} batches, fewer than training.accumulate="
                f"{recipe.training.accumulate}; lower it, or training.batch"
            )
        self.corpora = dict(parts.corpora)
        """Number of utterances of each corpus, by its name."""
        self.classes = parts.classes
        """The classes of a supervised recipe."""
        self.labels = parts.classes.sha256 if parts.classes else None
        """SHA-256 of the table of classes, if there is one."""
        self.swap = Gathered(self.positives)
        self.watch = Watch(self.framework, recipe.framework.name, recipe.training, parts.names)
        self.held_out: HeldOut | None = None
        """Audio for label-free gauges, on the first rank; ``None`` without ``data.held_out``."""
        if recipe.data.held_out is not None and is_first():
            self.held_out = HeldOut(recipe.data.held_out, recipe.training.gauge_utterances, recipe.seed)
        self.first = 0
        """Number of epochs that the starting weights were trained."""
        self.done = 0
        """Number of finished epochs of this run."""
        self.filled = False
        """Whether the queues have been filled."""
        self.place = Place()
        self.numbers: dict[str, float] = {}
        """Numbers of the last epoch."""

    # -- starting --------------------------------------------------------------------------------------

    def start_from(self, source: Path) -> None:
        """Start from another run's or a model's weights."""
        named = self.classes.named if self.classes else None
        self.first = begin_from(source, self.recipe, self.framework, self.optimizer, named)

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
            "classes": {"known": self.classes.known, "named": self.classes.named} if self.classes else None,
        }

    def resume(self, checkpoints: Path) -> None:
        """Resume from the newest checkpoint in a folder that is valid and belongs to this run."""
        state = read_newest(checkpoints, objection=lambda state: objection(self.recipe, self.corpora, state))
        refuse_other_labels(self.recipe, state.get("labels"), self.labels)
        if self.classes and (before := state.get("classes")):
            refuse_other_classes(before["named"], self.classes.named)
        self.framework.load_state_dict(state["framework"])
        self.positives.load_state_dict(state["positives"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.first, self.done, self.numbers = state["first"], state["done"], state["numbers"]
        self.filled = state.get("filled", True)  # older checkpoints, which lack it, are of complete epochs
        if "place" in state:
            self.place = Place.restored(state["place"], self.fabric.device)
            self.gauge.restore(state["gauge"])
            self.watch.restore(state["watch"])

    # -- progress --------------------------------------------------------------------------------------

    @property
    def behind(self) -> int:
        """Number of epochs trained in all, and so the number of the next epoch, from 0."""
        return self.first + self.done

    @property
    def last(self) -> int:
        """Number of epochs trained in all when the run ends."""
        return self.first + self.recipe.training.epochs

    @property
    def to_fill(self) -> bool:
        """Whether the pass that fills the queues, or the rest of it, comes next."""
        started = self.place.steps > 0
        return self.positives.needs_fill and not started and (self.positives.refresh or not self.filled)

    def left(self) -> dict[str, int]:
        """Return the remaining batches of fill passes, clusterings and steps."""
        epochs, started = self.recipe.training.epochs - self.done, self.place.steps > 0
        passes, clusterings = 0, 0
        if self.positives.needs_fill:
            clusterings = epochs - started
            passes = clusterings if self.positives.refresh else int(self.to_fill)
        batches = passes * math.ceil(self.batches.size / (self.batches.batch * self.batches.world))
        return {
            "filling": batches - self.place.filled * self.to_fill,
            "clustering": clusterings,
            "training": epochs * self.steps - self.place.steps,
        }

    # -- fill, epoch, step -----------------------------------------------------------------------------

    def fill(self) -> Iterator[Tensor]:
        """Fill the queues in one forward pass over the corpus; yield the ids of each batch."""
        views = None if self.positives.stores else ["reference"]
        for batch in self.batches.every(self.behind, self.place.filled, views):
            if "reference" in batch.views:
                self.swap.observe(batch.ids, self.reference(batch))
            if self.positives.stores:
                with evaluating(self.framework), self.fabric.autocast():
                    self.swap.store(batch.ids, self.framework.target(batch))
            self.place.filled += 1
            yield batch.ids
        self.filled = True

    def prepare(self) -> None:
        """Let the positive sampler prepare the next epoch, for SSPS with k-means."""
        self.place.numbers = self.positives.start_epoch(self.behind)
        self.place.numbers |= self.gauge.clusters(self.positives.partition())
        self.place.numbers |= self.gauge.partners(self.positives.partners(self.behind))
        self.watch.skipped = 0

    def epoch(self) -> Iterator[StepResult]:
        """Take the remaining steps of an epoch; afterwards :attr:`numbers` holds its numbers.

        Call :meth:`prepare` before the first step.
        """
        training, batches, place, epoch = self.recipe.training, self.batches, self.place, self.behind
        planned = training.schedule_epochs or self.last
        self.framework.train()
        self.framework.start_epoch(epoch)
        ahead = self.fabric.device.type == "cuda"
        coming = OneAhead(batches.epoch(epoch, self.positives, place.steps * training.accumulate), ahead)
        began, seen = time.perf_counter(), 0
        for step in range(place.steps, self.steps):
            lr = learning_rate(training, epoch, step, self.steps, planned)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            progress = (epoch * self.steps + step + 1) / (planned * self.steps)
            result = self.step(islice(coming, training.accumulate), epoch, progress, coming.prepare)
            seen += len(result.ids) * world()
            place.steps += 1
            yield result
        self.numbers = {
            **place.numbers,
            **place.means(),
            "utterances_per_second": seen / (time.perf_counter() - began),
            "waiting_for_audio": batches.audio_wait.share(),
            "lr": self.lr,
            **self.gauge.result(),
        }
        if self.held_out is not None:
            self.numbers |= self.held_out.measure(self.framework.embedder, self.fabric.device)
        if self.watch.skipped:
            self.numbers["skipped"] = self.watch.skipped
        self.done, self.place = self.done + 1, Place()

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(
        self,
        batches: Iterable[Batch],
        epoch: int,
        progress: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> StepResult:
        """Take one step with the mean gradient of several batches.

        Args:
            batches: batches of this step.
            epoch: number of the epoch, from 0.
            progress: share of the schedule that is finished after this step.
            meanwhile: called while the device still computes the gradient; it may queue more work.

        Returns:
            The result; its loss is ``None`` if the loss or a gradient was not finite and the step was
            skipped.
        """
        self.watch.begin()
        parts = [self.differentiate(batch) for batch in batches]
        ids = torch.cat([part.ids for part in parts])
        loss = mean_of_ranks(torch.stack([part.step.loss.detach() for part in parts]).mean())
        mean_gradients(self.framework.parameters())
        check = self.watch.look(loss, self.framework.parameters())
        meanwhile()
        where = f"epoch {epoch + 1}, step {self.place.steps + 1}"
        value = self.watch.learn_from(check, ids, where)
        if value is None:
            self.optimizer.zero_grad(set_to_none=True)
            return StepResult(ids, None)
        self.framework.after_backward(epoch)
        if self.recipe.training.clip:
            clip_each(self.framework.parameters(), self.recipe.training.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.framework.after_step(progress)
        for part in parts:
            if part.reference is not None:
                self.swap.observe(part.ids, part.reference)
            if part.step.swap is not None:
                self.swap.learnt(part.ids, part.step.swap)
                self.gauge.update(gather(part.ids), part.step.swap)
        self.place.sums["loss"].append(loss)
        for name in parts[0].step.metrics:
            values = torch.stack([part.step.metrics[name].detach() for part in parts])
            self.place.sums[name].append(mean_of_ranks(values.mean()))
        return StepResult(ids, value)

    def differentiate(self, batch: Batch) -> _Part:
        """Run forward and backward on a batch, adding to the gradient."""
        reference = self.reference(batch) if "reference" in batch.views else None
        with self.fabric.autocast():  # not Fabric's wrapper, which would round the waveforms to bf16
            step = self.framework(batch, self.swap)
        self.fabric.backward(step.loss / self.recipe.training.accumulate)
        return _Part(batch.ids, reference, step.detached())

    def reference(self, batch: Batch) -> Tensor:
        """Return (B, dim) the embeddings of the clean reference views, in eval mode and without gradients."""
        with evaluating(self.framework.embedder), self.fabric.autocast():
            reference: Tensor = self.framework.embedder(batch.views["reference"][:, 0])
            return reference
