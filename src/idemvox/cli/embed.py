"""idemvox embed: one vector for each recording."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from idemvox.cli.common import (
    Cache,
    Device,
    Devices,
    Model,
    Precision,
    Quiet,
    console,
    fetch_device,
    in_group,
    resumable,
)

__all__ = ["embed"]


def embed(
    model: Model,
    audio: Annotated[list[Path], typer.Argument(help="Audio files, or one manifest (.csv).")],
    out: Annotated[
        Path, typer.Option(help="Folder to write, or a file that ends in .npz, for what fits into memory.")
    ] = Path("embeddings.npz"),
    device: Device = None,
    precision: Precision = "fp32",
    cache: Cache = None,
    devices: Devices = 1,
    quiet: Quiet = False,
) -> None:
    """Embed whole recordings, one vector each.

    A folder gets matrix.npy, with a row for each recording; ids.txt, with their ids in the same order; and
    embeddings.json, which says what they are. Read the matrix without loading it:
    numpy.load("matrix.npy", mmap_mode="r"). From Python, idemvox.verification.embed.load_embeddings reads
    folders and .npz files.

    Into a folder, embeddings are written as they are made, so the list may be long and memory small. The same
    command resumes after it was stopped or killed, and ends with the same bytes. A cache resumes as well, and
    serves other commands too.

    With --devices, or under torchrun, several processes embed, each a share; on several machines they need
    the same folders at the same paths.

    Examples:

      idemvox embed runs/ssps monday.wav tuesday.wav --out two.npz

      idemvox embed runs/ssps million.csv --out embeddings --devices 8

      torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500
      -m idemvox.cli embed runs/ssps million.csv --out /shared/embeddings
    """
    device = fetch_device(device)
    with resumable() if cache or out.suffix != ".npz" else nullcontext():
        said = in_group(
            devices, device, partial(_embed, model, audio, out, cache, device, precision, not quiet)
        )
    if said is not None:
        console.print(said)


def _embed(
    model: Path,
    audio: Sequence[Path],
    out: Path,
    cache: Path | None,
    device: str,
    precision: Literal["fp32", "bf16"],
    progress: bool,
) -> str | None:
    """Embed and write; return what was written, in words."""
    from idemvox.corpus.manifest import load_manifest
    from idemvox.model import load_model
    from idemvox.processes import command_line
    from idemvox.verification.embed import EmbeddingCache, embed_shared, save_embeddings
    from idemvox.verification.embed_folder import embed_folder
    from idemvox.verification.scoring import Scorer

    loaded = load_model(model)
    source = load_manifest(audio[0]) if len(audio) == 1 and audio[0].suffix == ".csv" else audio
    kept = None if cache is None else EmbeddingCache.of(loaded, cache)
    how: dict[str, Any] = {
        "device": device,
        "precision": precision,
        "cache": kept,
        "progress": progress,
    }
    if out.suffix == ".npz":
        embeddings = embed_shared(loaded.encoder, source, **how)
        if embeddings is not None:
            save_embeddings(embeddings, out)
    else:
        embeddings = embed_folder(loaded, source, out, command=command_line(), **how)
    if embeddings is None:
        return None
    dim, scorer = embeddings.matrix.shape[1], Scorer.of(loaded)
    return f"{len(embeddings.ids):,} embeddings of {dim} numbers, to compare by {scorer}: {out}"
