"""idemvox import-weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from idemvox.cli.common import console

__all__ = ["import_weights"]


def import_weights(
    file: Annotated[Path, typer.Argument(help="Weights, as the toolkit publishes or saves them.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write.", metavar="MODELFOLDER")],
    toolkit: Annotated[
        str,
        typer.Option(
            "--from",
            help="Toolkit that wrote them: resemblyzer, speechbrain, sslsv, voxceleb_trainer, wespeaker.",
            metavar="TOOLKIT",
        ),
    ],
) -> None:
    """Turn another toolkit's weights into a model folder.

    The network and its front end compute what the toolkit's own code computes. The folder is then like any
    other: evaluate it, verify with it, or train it further. The file is read as tensors and plain values;
    nothing in it is executed.

    Example, with resemblyzer/pretrained.pt of Resemblyzer's pip package:

      idemvox import-weights pretrained.pt models/ge2e --from resemblyzer

      idemvox evaluate models/ge2e trials.txt --root recordings/
    """
    from idemvox.model import import_weights as import_file

    model = import_file(file, toolkit, out)
    encoder, settings = model.network, model.network.frontend.settings
    size = sum(parameter.numel() for parameter in encoder.parameters())
    console.print(f"{type(encoder).__name__} with {size:,} parameters, {encoder.dim} numbers each: {out}")
    description = json.loads((model.folder / "model.json").read_text(encoding="utf-8"))
    parts = {"encoder": description["encoder"], "frontend": asdict(settings)}
    given = " ".join(f"{key}='{json.dumps(value)}'" for key, value in parts.items())
    console.print("to train it further on your recordings:", highlight=False)
    console.print(
        f"idemvox train simclr-ssps start_from={out} data.manifest=train.csv {given}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
