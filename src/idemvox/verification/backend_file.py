"""The back end in a model folder: one file of numbers, of which nothing is ever executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from idemvox.errors import ModelError
from idemvox.files import atomic_write
from idemvox.model import BACKEND_FILE, fingerprint, remove_measured
from idemvox.verification.backend import BackEnd, Cohort
from idemvox.verification.plda import Plda

__all__ = ["FORMAT", "load_backend", "remove_backend", "save_backend"]

FORMAT = 1
"""Version of the file's layout; newer versions are refused."""

_PLDA = ("mean", "between", "within", "lda")


def save_backend(folder: str | Path, backend: BackEnd) -> Path:
    """Write a back end into a model folder, atomically; its report and calibration are removed.

    They were made of other scores: run `idemvox evaluate` and `idemvox calibrate` again. The file also holds
    the fingerprint of the model, because a back end fits no other.
    """
    folder = Path(folder)
    tensors: dict[str, NDArray[Any]] = {}
    about: dict[str, Any] = {"format": FORMAT, "model": fingerprint(folder)}
    about["provenance"] = backend.provenance
    if backend.mean is not None:
        tensors["mean"] = backend.mean
    if backend.cohort is not None:
        tensors["cohort"] = backend.cohort.vectors
        about["cohort"] = {"top": backend.cohort.top, "of": backend.cohort.of}
    if backend.plda is not None:
        parts = {f"plda.{name}": getattr(backend.plda, name) for name in _PLDA}
        tensors |= {name: part for name, part in parts.items() if part is not None}
        about["plda"] = {"unit_length": backend.plda.unit_length, "of": backend.plda.of}
    content = save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()},
        {"backend": json.dumps(about, ensure_ascii=False)},
    )
    remove_measured(folder)
    with atomic_write(folder / BACKEND_FILE, "wb") as file:
        file.write(content)
    return folder / BACKEND_FILE


def load_backend(folder: str | Path) -> BackEnd | None:
    """Read the back end of a model folder; ``None`` if it has none.

    Raises:
        ModelError: it was fitted to another model, is damaged, or was written by a newer idemvox.
    """
    folder, path = Path(folder), Path(folder) / BACKEND_FILE
    if not path.is_file():
        return None
    again = "run `idemvox backend` again, or delete it"
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads(file.metadata()["backend"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        newer = about["format"] > FORMAT
        if not newer:
            backend = _backend(about, tensors)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError, ModelError) as error:
        raise ModelError(f"{path} is damaged ({error}): {again}") from error
    if newer:
        raise ModelError(
            f"{path} has format {about['format']}, this idemvox reads up to {FORMAT}: upgrade it"
        )
    if about.get("model") != fingerprint(folder):
        raise ModelError(f"{path} was fitted to embeddings of another model than this one: {again}")
    return backend


def _backend(about: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> BackEnd:
    """Build a back end of what its file holds."""
    cohort = plda = None
    if "cohort" in about:
        cohort = Cohort(tensors["cohort"], about["cohort"]["top"], about["cohort"]["of"])
    if "plda" in about:
        mean, between, within = (tensors[f"plda.{name}"] for name in _PLDA[:3])
        how = about["plda"]
        plda = Plda(mean, between, within, tensors.get("plda.lda"), how["unit_length"], how["of"])
    return BackEnd(tensors.get("mean"), cohort, plda, dict(about["provenance"]))


def remove_backend(folder: str | Path) -> bool:
    """Remove a model's back end, and the report and calibration of its scores; return whether it had one."""
    path = Path(folder) / BACKEND_FILE
    if not path.is_file():
        return False
    remove_measured(Path(folder))
    path.unlink()
    return True
