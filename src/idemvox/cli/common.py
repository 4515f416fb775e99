"""Parts that several commands share: the console, common options, and stopping with Ctrl-C."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.console import Console

from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest

__all__ = [
    "Cache",
    "Device",
    "Devices",
    "ManifestFile",
    "Model",
    "Precision",
    "Quiet",
    "Root",
    "Workers",
    "console",
    "fetch_device",
    "in_group",
    "resumable",
    "trial_source",
]

R = TypeVar("R")

console = Console()

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Parallel readers; default: one per core.")]
Model = Annotated[Path, typer.Argument(help="A run folder, or the model folder in it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: a GPU if there is one.")]
Precision = Annotated[Literal["fp32", "bf16"], typer.Option(help="Precision of the encoder's arithmetic.")]
Devices = Annotated[
    int, typer.Option(min=1, help="GPUs (or parts of a CPU) that share the embedding; or use torchrun.")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="IDEMVOX_CACHE",
        help="Folder to keep embeddings in, and to take them from in later commands; default: none are kept.",
    ),
]
Root = Annotated[Path | None, typer.Option(help="Folder that the paths in the trials start from.")]
ManifestFile = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest with the utterances of the trials.")
]


def trial_source(root: Path | None, manifest: Path | None) -> Manifest | Path:
    """Return where the utterances of trials are: a manifest, or the folder that their paths start from."""
    from idemvox.corpus.manifest import load_manifest

    if root is not None and manifest is not None:
        raise IdemvoxError("give --root or --manifest, not both")
    if manifest is not None:
        return load_manifest(manifest)
    return root or Path()


def fetch_device(name: str | None) -> str:
    """Return the device that was asked for, or the best available one."""
    from idemvox.extras import has_torch

    if name is not None or not has_torch():
        return name or "cpu"
    from idemvox.devices import device_named

    return device_named("auto").type


def in_group(devices: int, device: str, work: Callable[[], R]) -> R | None:
    """Run ``work``, which embeds, in several processes; ``None`` in those of torchrun that print nothing."""
    if devices == int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return work()  # an exported model needs no torch
    from idemvox.launch import run_on

    if devices > 1 and ":" in device:
        raise IdemvoxError(f"--devices {devices} gives each process a device: use --device cuda")
    gpus = device.startswith("cuda")
    return run_on(devices, work, gpus=gpus, backend="gloo", timeout=timedelta(days=30))


@contextmanager
def resumable(how: str = "stopped; run the same command again to resume") -> Iterator[None]:
    """On Ctrl-C print how to resume, with the interrupted code's message or ``how``; exit status 130."""
    try:
        yield
    except KeyboardInterrupt as stop:
        console.print(f"\n{str(stop) or how}", markup=False, highlight=False)
        raise typer.Exit(130) from stop
