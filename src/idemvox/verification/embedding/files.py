"""Embeddings in files: ``.npz``, or a folder that can be memory-mapped."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from idemvox.corpus.packs.packed import Lines, escaped
from idemvox.errors import CorpusError, IdemvoxError
from idemvox.files import atomic_write, read_json, write_json
from idemvox.verification.embedding.embeddings import WHOLE, Embeddings

__all__ = ["ABOUT", "IDS", "MATRIX", "is_folder", "load_embeddings", "save_embeddings"]

MATRIX, IDS, ABOUT = "matrix.npy", "ids.txt", "embeddings.json"
FORMAT = 1


def save_embeddings(embeddings: Embeddings, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write embeddings, atomically, as ``.npz`` or into a folder.

    A folder can be memory-mapped, so it suits a million utterances. It has ``matrix.npy`` (N, D); ``ids.txt``
    with an id in each line, in which backslashes and line breaks are escaped; and ``embeddings.json``, which
    says what they are. That one is written last: a folder without it is not finished.

    Args:
        embeddings: what is written; a memory-mapped matrix is copied without holding it in memory.
        path: a file that ends in ``.npz``, or a folder.
        about: more values for ``embeddings.json``.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with atomic_write(path, "wb") as file:
            ids = np.array(embeddings.ids, dtype=np.str_)
            np.savez(file, ids=ids, matrix=embeddings.matrix, of=embeddings.of)
        return
    (path / ABOUT).unlink(missing_ok=True)
    with atomic_write(path / MATRIX, "wb") as file:
        np.save(file, embeddings.matrix)
    with atomic_write(path / IDS) as file:
        file.writelines(escaped(embeddings.ids))
    shape = list(embeddings.matrix.shape)
    write_json(path / ABOUT, {"format": FORMAT, "of": embeddings.of, "shape": shape, **(about or {})})


def load_embeddings(path: str | Path) -> Embeddings:
    """Read what :func:`save_embeddings` wrote; a folder's matrix is memory-mapped. Nothing is executed."""
    path = Path(path)
    try:
        if path.is_dir():
            about = read_json(path / ABOUT)
            matrix = np.asarray(np.load(path / MATRIX, mmap_mode="r", allow_pickle=False))
            ids = tuple(Lines(path / IDS, int(about["shape"][0])))
            return Embeddings(ids, matrix, str(about["of"]))
        with np.load(path, allow_pickle=False) as file:
            of = str(file["of"]) if "of" in file else WHOLE
            return Embeddings(tuple(file["ids"].tolist()), np.asarray(file["matrix"], np.float32), of)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, CorpusError) as error:
        raise IdemvoxError(f"cannot read embeddings from {path}: {error}; write them again") from error


def is_folder(path: Path) -> bool:
    """Return whether this is a finished folder of embeddings."""
    return (path / ABOUT).is_file()
