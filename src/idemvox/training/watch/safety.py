"""What stops a run that would waste time: steps that come to nothing, embeddings all alike, full memory."""

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

    It is 1 where all have the same direction, and where they differ in its sign alone: what is left of a
    collapse behind a batch normalisation.
    """
    unit = F.normalize(x.float(), dim=1)
    squares = (unit @ unit.T).square().sum() - len(x)
    return (squares / (len(x) * (len(x) - 1))).clamp_min(0).sqrt()


class Watch:
    """Looks at each step; takes back what a step did whose loss or gradient is not finite.

    Such a step must leave no trace: besides parameters, that is batch statistics, a teacher's centre, a
    framework's queue.  A positive sampler is given the references and targets of learnt steps only.

    A run is stopped after ``training.bad_steps`` of those in a row: parameters stand still meanwhile, so if
    they are the cause nothing will change, while of ten batches in a row hardly all have a bad recording.
    It is stopped too when the embeddings of different utterances have all been alike, with a
    :func:`likeness` above 0.999, for ``training.collapse_steps`` in a row.
    """

    def __init__(self, framework: Framework, training: Training, names: Sequence[str]) -> None:
        """Watch a framework; ``names``: (N,) of the utterances."""
        self.training, self.names = training, names
        self.bad = 0  # steps in a row
        self.alike = 0
        self.skipped = 0  # steps of the epoch
        self._embeddings: Tensor | None = None
        self._modules = list(framework.modules())
        self._held: list[dict[str, Tensor | None]] = []  # by each module
        self._buffers: list[Tensor] = []
        self._before: list[Tensor] = []
        framework.embedder.register_forward_hook(self._see)

    def _see(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if module.training:  # not the references
            self._embeddings = output.detach()

    def state(self) -> dict[str, int]:
        """Return the counts."""
        return {"bad": self.bad, "alike": self.alike, "skipped": self.skipped}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from :meth:`state`."""
        self.bad, self.alike, self.skipped = state["bad"], state["alike"], state["skipped"]

    def begin(self) -> None:
        """Remember what a step may have to take back: which buffers there are, and what is in them."""
        self._held = [dict(module._buffers) for module in self._modules]
        self._buffers = [buffer for held in self._held for buffer in held.values() if buffer is not None]
        if [_kind(b) for b in self._buffers] == [_kind(b) for b in self._before]:
            torch._foreach_copy_(self._before, self._buffers)
        else:
            self._before = [buffer.clone() for buffer in self._buffers]

    def _take_back(self) -> None:
        """Give each module the buffers that it had, with what was in them."""
        for module, held in zip(self._modules, self._held, strict=True):
            module._buffers.update(held)
        torch._foreach_copy_(self._buffers, self._before)

    def look(self, loss: Tensor, parameters: Iterator[nn.Parameter]) -> Fetched:
        """Have the device check a step, and send for what it finds; nobody waits.

        Args:
            loss: of all ranks.
            parameters: with their gradients.

        Returns:
            What :meth:`learn_from` takes.
        """
        norms = torch._foreach_norm([p.grad for p in parameters if p.grad is not None])
        finite = torch.stack([loss, *norms]).isfinite().all()
        seen = self._embeddings
        cosine = loss.new_zeros(()).float() if seen is None or len(seen) < 2 else likeness(seen)
        return Fetched(torch.stack([finite.to(loss.dtype), mean(cosine).to(loss.dtype), loss.detach()]))

    def learn_from(self, found: Fetched, ids: Tensor, where: str) -> float | None:
        """Return a step's loss if it is to be learnt from, ``None`` if not.

        Then everything but the gradients is as it was before the step.  This is the one place where a step
        waits for the device.

        Args:
            found: by :meth:`look`.
            ids: (B,) utterances.
            where: the step, for messages.

        Raises:
            RunError: after too many bad steps, or with embeddings all alike for too long.
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
                f"loss or gradient has not been finite for {self.bad} steps in a row, last at {where} "
                f"(utterances {', '.join(self.named(ids))}); lower training.lr, set training.clip=3, or use "
                "training.precision=fp32; --resume goes on from the last checkpoint"
            )
        return None

    def named(self, ids: Tensor) -> list[str]:
        """Return the names of some utterances (B,)."""
        return [self.names[number] for number in ids.tolist()]

    def _stop_if_alike(self, cosine: float, where: str) -> None:
        self.alike = self.alike + 1 if cosine > ALIKE else 0
        most = self.training.collapse_steps
        if most is not None and self.alike >= most:
            raise RunError(
                f"the embeddings of different utterances have been all alike for {self.alike} steps, last at "
                f"{where} (cosine {cosine:.5f}): training has collapsed. Try a lower training.lr, more "
                "training.warmup_epochs, a larger training.batch; with a teacher, framework.momentum nearer "
                "to 1 or a lower framework.teacher_temperature; or another seed"
            )


def _kind(buffer: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return buffer.shape, buffer.dtype, buffer.device


@contextmanager
def memory_named(recipe: Recipe) -> Iterator[None]:
    """Say which keys of the recipe to lower where memory, a GPU's or the machine's, does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's are RuntimeErrors
        said = str(error).strip().partition("\n")[0]
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "DefaultCPUAllocator" not in said and "not enough memory" not in said:
            raise
        ways = ", ".join(_hungry(recipe)) + (
            "" if recipe.training.recompute else "; or set training.recompute=true"
        )
        raise RunError(f"out of memory ({said or 'no more is said'}); lower {ways}") from error


def _hungry(recipe: Recipe) -> list[str]:
    """Return the keys that memory depends on, with their values."""
    found = [f"training.batch (now {recipe.training.batch})"]
    for where, registry in (("framework", FRAMEWORKS), ("positives", POSITIVES)):
        part = getattr(recipe, where)
        kind = registry[part.name].Options
        options = part.build(kind, where)
        for name, hint in get_type_hints(kind, include_extras=True).items():
            value = getattr(options, name)
            if MEMORY in getattr(hint, "__metadata__", ()) and value is not None:
                found.append(f"{where}.{name} (now {value})")
    return found
