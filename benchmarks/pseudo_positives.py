"""How good would the pseudo-positives of SSPS be? Counts right speakers by K, M and length of the reference.

    python benchmarks/pseudo_positives.py RUN MANIFEST [--clusters 300 1000] [--neighbours 0 1] [--whiten 0]

RUN is a finished run or a model folder. MANIFEST lists labelled utterances: those that SSPS would train on,
or those of held-out speakers; the labels are only used for counting. There are two tables. The first has the
nearest neighbour, by length of the reference. The second has what the sampler itself draws with all
utterances in its queue, for each K, M and power of whitening.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common import parser_of
from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.model import load_model
from idemvox.positives.base import Setting
from idemvox.positives.ssps import SSPS
from idemvox.verification.embed import embed_files


def numbers(names: list[str | None]) -> Tensor:
    """Number names in sorted order; None is not allowed."""
    return torch.from_numpy(np.unique(np.array(names, dtype=str), return_inverse=True)[1])


def references(folder: Path, manifest: Manifest, seconds: float) -> Tensor:
    """Return (N, D) unit embeddings of the first ``seconds`` of each utterance, in the manifest's order."""
    found = embed_files(load_model(folder).encoder, manifest, precision="bf16", max_seconds=seconds)
    order = {name: row for row, name in enumerate(found.ids)}
    matrix = torch.from_numpy(found.matrix)[[order[u.id] for u in manifest]]
    return torch.nn.functional.normalize(matrix.float(), dim=1)


def nearest(vectors: Tensor) -> Tensor:
    """Return (N,) the index of the nearest other row."""
    return torch.cat(
        [
            (vectors[rows] @ vectors.T).scatter_(1, rows[:, None], -2.0).argmax(1)
            for rows in torch.arange(len(vectors)).split(4096)
        ]
    )


def draw(vectors: Tensor, clusters: int, neighbours: int, whiten: float = 0.0) -> Tensor:
    """Return (N,) the utterance that SSPS draws as pseudo-positive of each utterance, or -1."""
    n, dim = vectors.shape
    options = SSPS.Options(clusters=clusters, neighbours=neighbours, queue=n, whiten=whiten)
    ssps = SSPS(options, Setting(n, dim, dim, 0, None))
    everyone = torch.arange(n)
    ssps.observe(everyone, vectors)
    ssps.store(everyone, vectors)
    ssps.start_epoch(0)
    slots = ssps.choose(everyone)
    return torch.where(slots >= 0, ssps.queue.ids[slots.clamp_min(0)], -1)


def right(chosen: Tensor, labels: Tensor) -> str:
    """Return the share of the chosen utterances that have the anchor's label, in %."""
    hit = chosen >= 0
    return f"{100 * (labels[chosen[hit]] == labels[hit]).float().mean():.1f}"


def main() -> None:
    """Print both tables."""
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--clusters", type=int, nargs="+", help="default: 1/4, 1/2, 0.7 and 0.85 of all")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--whiten", type=float, nargs="+", default=[0.0, 0.5])
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.5, 2.3, 3.0, 4.0])
    options = parser.parse_args()
    manifest = load_manifest(options.manifest)
    speakers = numbers([u.speaker for u in manifest])
    recordings = numbers([u.recording for u in manifest])
    console = Console()

    table = Table(title=f"nearest of {len(manifest):,} utterances, {len(manifest.speakers)} speakers")
    for name in ("reference, s", "right speaker, %", "same recording, %"):
        table.add_column(name, justify="right")
    for seconds in options.seconds:
        vectors = references(options.run, manifest, seconds)
        near = nearest(vectors)
        table.add_row(f"{seconds:g}", right(near, speakers), right(near, recordings))
    console.print(table)

    table = Table(title=f"SSPS's draws, references of {options.seconds[-1]:g} s")
    for name in ("K", "M", "whiten", "coverage, %", "right speaker, %", "same recording, %"):
        table.add_column(name, justify="right")
    for clusters in options.clusters or [round(part * len(manifest)) for part in (0.25, 0.5, 0.7, 0.85)]:
        for neighbours, whiten in product(options.neighbours, options.whiten):
            chosen = draw(vectors, clusters, neighbours, whiten)
            coverage = f"{100 * (chosen >= 0).float().mean():.0f}"
            shares = coverage, right(chosen, speakers), right(chosen, recordings)
            table.add_row(str(clusters), str(neighbours), f"{whiten:g}", *shares)
    console.print(table)


if __name__ == "__main__":
    main()
