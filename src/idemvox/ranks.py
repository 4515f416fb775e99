"""Communication between processes that train one model together.

With one process, every function here does nothing or returns its argument.

Autograd differentiates the sum of the ranks' losses, through every exchange; :func:`mean_gradients` turns
that into the gradient of their mean. So a loss of the rank's own rows, and a loss of all ranks' rows that
every rank computes, both get the gradient that one process would compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

__all__ = [
    "any_rank",
    "collect",
    "gather",
    "is_first",
    "mean",
    "mean_gradients",
    "of_first",
    "own",
    "rank",
    "synced",
    "world",
]

M = TypeVar("M", bound=nn.Module)


def world() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if world() > 1 else 0


def is_first() -> bool:
    """Return whether this is rank 0, which writes files and logs."""
    return rank() == 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        dist.all_reduce(whole)
        return own(whole)


def gather(x: Tensor) -> Tensor:
    """Return the rows (W B, ...) of all W ranks, rank by rank; every rank passes the same number, B.

    Gradients flow back from all ranks.
    """
    if world() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]
    return gathered


def own(x: Tensor) -> Tensor:
    """Return this rank's rows (B, ...) out of those of all ranks (W B, ...)."""
    return x.chunk(world())[rank()]


@torch.no_grad()
def collect(x: Tensor) -> Tensor:
    """Return the rows of all ranks, rank by rank, without gradients; ranks may pass different numbers."""
    if world() == 1:
        return x
    size = torch.tensor([len(x)], device=x.device)
    sizes = [torch.empty_like(size) for _ in range(world())]
    dist.all_gather(sizes, size)
    counts = [int(s) for s in sizes]
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def of_first(x: Tensor) -> Tensor:
    """Return the rows of rank 0; their number may differ from this rank's."""
    if world() == 1:
        return x
    size = collect(torch.tensor([len(x)], device=x.device))[0]
    return collect(x)[: int(size)]


@torch.no_grad()
def mean(x: Tensor) -> Tensor:
    """Return the mean of the ranks' values, without a gradient."""
    if world() == 1:
        return x.detach()
    x = x.detach().clone()
    dist.all_reduce(x)
    return x / world()


@torch.no_grad()
def any_rank(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Return for each flag whether it is set on any rank; all ranks wait for each other."""
    if world() == 1:
        return list(flags)
    raised = torch.tensor([False, *flags], dtype=torch.uint8, device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised[1:].tolist()]


@torch.no_grad()
def mean_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their mean over ranks, in one exchange."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = mean(torch.cat([g.flatten() for g in gradients]))
    torch._foreach_copy_(
        gradients,
        [f.view_as(g) for f, g in zip(flat.split([g.numel() for g in gradients]), gradients, strict=True)],
    )


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone()
        dist.all_reduce(whole)
        return whole


class _SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation with statistics over all ranks' batches, on CPUs, where PyTorch has none."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept (B, C) and (B, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        dims = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        x = input.float()
        own_count = x.new_tensor(float(x.numel() // x.shape[1]))
        total = _Sum.apply(torch.cat([x.sum(dims), own_count[None]]))  # type: ignore[no-untyped-call]
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = x - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(dims)) / count  # type: ignore[no-untyped-call]
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * (count / (count - 1)), share)
        y = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        normalised: Tensor = y.to(input.dtype)
        return normalised


def synced(module: M, device: torch.device) -> M:
    """Make every batch normalisation in ``module`` use all ranks' batches, in place.

    Args:
        module: any module.
        device: where it will run.
    """
    if world() == 1:
        return module
    if device.type == "cuda":
        converted: M = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            child.__class__ = _SyncedNorm  # type: ignore[assignment]  # the same parameters, statistics and settings
    return module
