"""Parts that several commands share: the console, common options, and stopping with Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from idemvox.errors import IdemvoxError

if TYPE_CHECKING:
    from idemvox.corpus.manifest import Manifest

__all__ = [
    "Device",
    "ManifestFile",
    "Model",
    "Quiet",
    "Root",
    "Workers",
    "console",
    "fetch_device",
    "resumable",
    "trial_source",
]

console = Console()

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Parallel readers; default: one per core.")]
Model = Annotated[Path, typer.Argument(help="A run folder, or the model folder in it.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: a GPU if there is one.")]
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


@contextmanager
def resumable(how: str = "stopped; run the same command again to resume") -> Iterator[None]:
    """On Ctrl-C print how to resume, with the interrupted code's message or ``how``; exit status 130."""
    try:
        yield
    except KeyboardInterrupt as stop:
        console.print(f"\n{str(stop) or how}", markup=False, highlight=False)
        raise typer.Exit(130) from stop
