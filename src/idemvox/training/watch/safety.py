"""Stops runs that cannot succeed: repeated non-finite steps, collapsed embeddings, out of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idemvox.devices import Fetched
from idemvox.errors import RunError
from idemvox.frameworks.base import Framework
from idemvox.ranks import mean
from idemvox.recipe import Recipe, Training
from idemvox.registry import FRAMEWORKS, MEMORY, POSITIVES

__all__ = ["Watch", "likeness", "memory_named"]

ALIKE = 0.999  # an untrained Fast ResNet-34 has 0.98


def likeness(x: Tensor) -> Tensor:
    """Return the root mean square cosine between different rows of (N, D).

    It is 1 if all rows have the same direction, or opposite ones, as in a collapse followed by batch
    normalisation.
    """
    unit = F.normalize(x.float(), dim=1)
    squares = (unit @ unit.T).square().sum() - len(x)
    return (squares / (len(x) * (len(x) - 1))).clamp_min(0).sqrt()


class Watch:
    """Checks each step, undoes a step with a NaN or infinite loss or gradient, and stops a failing run.

    Such a step must leave no trace in parameters, batch statistics, a teacher's centre or a framework's
    queue. All buffers of the framework are copied for this, because its forward pass may write to any of
    them, and a bad step is only known after it. A positive sampler only gets the references and targets of
    good steps, so its large queues are not copied.

    A run stops after ``training.bad_steps`` bad steps in a row. Parameters do not change in them, so if they
    are the cause, all further steps will be bad; ten batches in a row that all have a bad recording are
    unlikely. A run also stops if the embeddings of different utterances have been nearly equal, with a
    :func:`likeness` above 0.999, for ``training.collapse_steps`` in a row.
    """

    def __init__(self, framework: Framework, name: str, training: Training, names: Sequence[str]) -> None:
        """Watch a framework with a registered name; ``names`` (N,) are those of the utterances."""
        self.training, self.names = training, names
        self._framework, self._advice = name, framework.against_collapse
        self.bad = 0  # bad steps in a row
        self.alike = 0
        self.skipped = 0  # bad steps in this epoch
        self._embeddings: Tensor | None = None
        self._modules = list(framework.modules())
        self._held: list[dict[str, Tensor | None]] = []  # buffers of each module
        self._buffers: list[Tensor] = []
        self._before: list[Tensor] = []
        framework.embedder.register_forward_hook(self._see)

    def _see(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if module.training:  # not for the references
            self._embeddings = output.detach()

    def state(self) -> dict[str, int]:
        """Return the counts."""
        return {"bad": self.bad, "alike": self.alike, "skipped": self.skipped}

    def restore(self, state: dict[str, int]) -> None:
        """Restore the counts from :meth:`state`."""
        self.bad, self.alike, self.skipped = state["bad"], state["alike"], state["skipped"]

    def begin(self) -> None:
        """Save all buffers, in case the next step has to be undone."""
        self._held = [dict(module._buffers) for module in self._modules]
        self._buffers = [buffer for held in self._held for buffer in held.values() if buffer is not None]
        if [_kind(b) for b in self._buffers] == [_kind(b) for b in self._before]:
            torch._foreach_copy_(self._before, self._buffers)
        else:
            self._before = [buffer.clone() for buffer in self._buffers]

    def _take_back(self) -> None:
        """Restore the buffers of each module and their contents."""
        for module, held in zip(self._modules, self._held, strict=True):
            module._buffers.update(held)
        torch._foreach_copy_(self._buffers, self._before)

    def look(self, loss: Tensor, parameters: Iterator[nn.Parameter]) -> Fetched:
        """Start a check of a step on the device, without waiting for its result.

        Args:
            loss: mean loss over ranks.
            parameters: parameters with gradients.

        Returns:
            The result, for :meth:`learn_from`.
        """
        norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
        finite = torch.stack([loss, *norms]).isfinite().all()
        seen = self._embeddings
        cosine = loss.new_zeros(()).float() if seen is None or len(seen) < 2 else likeness(seen)
        return Fetched(torch.stack([finite.to(loss.dtype), mean(cosine).to(loss.dtype), loss.detach()]))

    def learn_from(self, found: Fetched, ids: Tensor, where: str) -> float | None:
        """Return the loss if it and the gradients are finite; else restore all buffers and return ``None``.

        This is the only place where a step waits for the device.

        Args:
            found: result of :meth:`look`.
            ids: (B,) utterances.
            where: the step, for messages.

        Raises:
            RunError: there were too many bad steps or steps with collapsed embeddings in a row.
        """
        finite, alike, loss = found.numbers()
        if finite:
            self.bad = 0
            self._stop_if_alike(alike, where)
            return loss
        self._take_back()
        self.bad, self.skipped = self.bad + 1, self.skipped + 1
        if self.bad >= self.training.bad_steps:
            raise RunError(
                f"loss or gradient was NaN or infinite for {self.bad} steps in a row, last at {where} "
                f"(utterances {', '.join(self.named(ids))}); lower training.lr, set training.clip=3, or use "
                "training.precision=fp32; --resume resumes from the last checkpoint"
            )
        return None

    def named(self, ids: Tensor) -> list[str]:
        """Return the names of the utterances ``ids`` (B,)."""
        return [self.names[number] for number in ids.tolist()]

    def _stop_if_alike(self, cosine: float, where: str) -> None:
        self.alike = self.alike + 1 if cosine > ALIKE else 0
        most = self.training.collapse_steps
        if most is not None and self.alike >= most:
            raise RunError(
                f"{self._framework} has collapsed: the embeddings of different utterances were nearly equal "
                f"for {self.alike} steps, last at {where} (cosine {cosine:.5f}). With {self._framework}, try "
                f"{self._advice}; else a lower training.lr, or another seed"
            )


def _kind(buffer: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return buffer.shape, buffer.dtype, buffer.device


@contextmanager
def memory_named(recipe: Recipe) -> Iterator[None]:
    """Turn a lack of memory, on a GPU or the CPU, into an error that names the recipe keys to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's are RuntimeErrors
        text = str(error).strip().partition("\n")[0]
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "DefaultCPUAllocator" not in text and "not enough memory" not in text:
            raise
        ways = ", ".join(_hungry(recipe)) + (
            "" if recipe.training.recompute else "; or set training.recompute=true"
        )
        raise RunError(f"out of memory{f' ({text})' if text else ''}; lower {ways}") from error


def _hungry(recipe: Recipe) -> list[str]:
    """Return the recipe keys that strongly affect memory, with their values."""
    keys = [f"training.batch (now {recipe.training.batch})"]
    for where, registry in (("framework", FRAMEWORKS), ("positives", POSITIVES)):
        part = getattr(recipe, where)
        kind = registry[part.name].Options
        options = part.build(kind, where)
        for name, hint in get_type_hints(kind, include_extras=True).items():
            value = getattr(options, name)
            if MEMORY in getattr(hint, "__metadata__", ()) and value is not None:
                keys.append(f"{where}.{name} (now {value})")
    return keys
