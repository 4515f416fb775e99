"""Model folders: a trained encoder, ready to embed, and its provenance.

``model.safetensors`` holds the weights; ``model.json`` says how to build the encoder and where it came from;
``README.md`` is a model card for people.
Nothing in them is ever unpickled. An exported folder holds ``model.onnx`` instead, and needs no torch: this
module imports torch only to build, load or write an encoder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from safetensors import SafetensorError

from idemvox.card import write_card
from idemvox.embedder import Embedder, Scoring
from idemvox.errors import ModelError, RecipeError
from idemvox.extras import needs_torch
from idemvox.files import atomic_write, file_hash, read_json, write_json
from idemvox.onnx_encoder import ONNX_FILE, OnnxEncoder
from idemvox.processes import command_line
from idemvox.recipe import Part, build_options
from idemvox.registry import ENCODERS, PEERS

if TYPE_CHECKING:
    from idemvox.encoders.base import Encoder

__all__ = [
    "BACKEND_FILE",
    "FORMAT",
    "Model",
    "build_encoder",
    "find_folder",
    "fingerprint",
    "import_weights",
    "load_model",
    "remove_measured",
    "save_model",
]

FORMAT = 2
"""Version of the folder's layout; newer versions are refused. Format 1 has no scoring and means cosine."""

BACKEND_FILE = "backend.safetensors"
"""What is fitted on embeddings and applied when they are compared; there need not be any."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model folder: the encoder in eval mode, how it is scored, its provenance, and the folder."""

    encoder: Embedder
    scoring: Scoring
    provenance: dict[str, Any]
    folder: Path

    @property
    def network(self) -> Encoder:
        """The encoder as a module of torch, for what needs its weights.

        Raises:
            ModelError: the model was exported.
        """
        from idemvox.encoders.base import Encoder

        if not isinstance(self.encoder, Encoder):
            raise ModelError(f"{self.folder} was exported and cannot be trained further: give the original")
        return self.encoder


def build_encoder(part: Part, frontend: Mapping[str, Any]) -> Encoder:
    """Build the encoder that a recipe names, with its front end."""
    from idemvox.audio.frontend import FrontEndSettings

    cls = ENCODERS[part.name]
    options = part.build(cls.Options, "encoder")
    front: FrontEndSettings = build_options(frontend, FrontEndSettings, "frontend")
    encoder: Encoder = cls(options, front)
    return encoder


def save_model(
    folder: Path,
    encoder: Encoder,
    part: Part,
    frontend: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    scoring: Scoring,
) -> None:
    """Write a model folder and its card, replacing each file atomically; remove what older weights led to."""
    from safetensors.torch import save

    from idemvox.audio.frontend import FrontEndSettings

    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    with atomic_write(folder / "model.safetensors", "wb") as file:
        file.write(save(state))
    remove_measured(folder)
    (folder / BACKEND_FILE).unlink(missing_ok=True)
    front = asdict(build_options(frontend, FrontEndSettings, "frontend"))
    write_json(
        folder / "model.json",
        {
            "format": FORMAT,
            "encoder": part.model_dump(),
            "frontend": front,
            "scoring": scoring,
            "provenance": dict(provenance),
        },
    )
    write_card(folder)


def remove_measured(folder: Path) -> None:
    """Remove what was measured on a model's scores, its report and its calibration: they are changing."""
    for measured in ("report.json", "calibration.json"):
        (folder / measured).unlink(missing_ok=True)
    write_card(folder)


def find_folder(folder: str | Path) -> Path:
    """Return the model folder that is meant: this one, or the one inside a run.

    Raises:
        ModelError: neither is one.
    """
    folder = Path(folder)
    if not (folder / "model.json").is_file() and (folder / "model" / "model.json").is_file():
        return folder / "model"
    if not (folder / "model.json").is_file():
        raise ModelError(
            f"{folder} is not a model folder (no model.json); give a run folder or the model folder in it"
        )
    return folder


def load_model(folder: str | Path) -> Model:
    """Load a model folder, or the ``model`` folder inside a run.

    Raises:
        ModelError: not a model folder, damaged, or written by a newer idemvox.
    """
    folder = find_folder(folder)
    description = read_json(folder / "model.json", ModelError)
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise ModelError(f"model folder {folder} is damaged: model.json is not a description of a model")
    if description["format"] > FORMAT:
        raise ModelError(
            f"{folder} has model format {description['format']}, this idemvox reads up to {FORMAT}: "
            "upgrade idemvox"
        )
    try:
        encoder = _load_encoder(folder, description)
        scoring: Scoring = TypeAdapter(Scoring).validate_python(description.get("scoring", "cosine"))
    except (RecipeError, KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(f"model folder {folder} is damaged: {error}") from error
    return Model(encoder, scoring, description.get("provenance", {}), folder)


def _load_encoder(folder: Path, description: Mapping[str, Any]) -> Embedder:
    """Load the encoder of a model folder: of an exported one with onnxruntime, else with torch."""
    if "exported" in description:
        return OnnxEncoder(folder / ONNX_FILE)
    needs_torch(f"the model in {folder}")
    from safetensors.torch import load_file

    part = TypeAdapter(Part).validate_python(description["encoder"])
    encoder = build_encoder(part, description["frontend"])
    encoder.load_state_dict(load_file(folder / "model.safetensors"))
    return encoder.eval()


def import_weights(file: str | Path, peer: str, folder: str | Path) -> Model:
    """Write a model folder with another toolkit's weights and front end, and load it.

    Nothing in the file is executed. The provenance names the toolkit, the file and its SHA-256, and the
    licence where the toolkit states one.

    Args:
        file: weights as the toolkit publishes or saves them.
        peer: name of the toolkit, such as ``"speechbrain"``.
        folder: a new model folder.

    Raises:
        RecipeError: the toolkit is unknown.
        ModelError: the file cannot be read safely, or holds other weights; or ``folder`` holds a model.
    """
    file, folder, source = Path(file), Path(folder), PEERS[peer]
    if (folder / "model.json").exists():
        raise ModelError(f"{folder} holds a model: choose another folder")
    from idemvox.encoders.weights.base import read_tensors

    state = read_tensors(file)
    try:
        found = source.convert(state)
        part = Part(name=found.encoder, **found.options)
        encoder = build_encoder(part, asdict(found.frontend))
        encoder.load_state_dict(found.state)
    except (KeyError, RuntimeError, ValueError, RecipeError) as error:
        raise ModelError(
            f"{file} does not hold weights of {peer} that idemvox can import ({shorten(str(error), 300)}); "
            f"from {peer} it reads {source.about}"
        ) from error
    provenance = {
        "imported": {
            "from": peer,
            "file": file.name,
            "sha256": file_hash(file),
            "licence": source.licence,
            "left out": sorted({".".join(name.split(".")[:2]) for name in found.unused}),
        },
        "finished": datetime.now().astimezone().isoformat(timespec="seconds"),
        "idemvox": version("idemvox"),
        "command": command_line(),
    }
    save_model(folder, encoder, part, asdict(found.frontend), provenance, scoring="cosine")
    return load_model(folder)


def fingerprint(folder: str | Path) -> str:
    """Return a SHA-256 of all that an embedding depends on: weights, encoder and front end.

    Models with the same fingerprint give the same embeddings. How embeddings are compared (the scoring, the
    back end, the calibration) and where the model came from do not count. An exported model whose embeddings
    are the original's has the original's fingerprint.

    Args:
        folder: the model folder itself, :attr:`Model.folder`.
    """
    folder = Path(folder)
    description = read_json(folder / "model.json", ModelError)
    if "exported" in description:
        exported = description["exported"]
        if file_hash(folder / ONNX_FILE) != exported["sha256"]:
            raise ModelError(f"{folder / ONNX_FILE} has changed since the export: export again")
        return str(exported["fingerprint"])
    built = {name: description[name] for name in ("encoder", "frontend")}
    text = json.dumps({"weights": file_hash(folder / "model.safetensors"), **built}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
