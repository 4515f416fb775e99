"""Embed a list into a folder: resumable, by several processes, in memory that does not grow with the list."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idemvox.corpus.manifest import Manifest
from idemvox.errors import IdemvoxError
from idemvox.files import read_json
from idemvox.model import Model, fingerprint
from idemvox.verification.embed import EmbeddingCache, Embeddings, embed_shared
from idemvox.verification.embedding.cache import file_states
from idemvox.verification.embedding.files import (
    ABOUT,
    IDS,
    MATRIX,
    load_embeddings,
    save_embeddings,
)
from idemvox.verification.embedding.group import Group
from idemvox.verification.report import library_versions

if TYPE_CHECKING:
    import torch

__all__ = ["embed_folder"]

PARTS = "parts"
"""Folder of what a command that has not finished has embedded so far."""

LEFT = re.compile(rf"\.({re.escape(MATRIX)}|{re.escape(IDS)}|{re.escape(ABOUT)})\..+\.part")
"""Files that a killed process was writing."""


def embed_folder(
    model: Model,
    source: Manifest | Sequence[str | Path],
    folder: str | Path,
    *,
    cache: EmbeddingCache | None = None,
    command: str = "",
    device: str | torch.device | None = None,
    progress: bool = False,
    **how: Any,
) -> Embeddings | None:
    """Embed a list as :func:`~idemvox.verification.embed.embed_shared` does, and write it into a folder.

    The embeddings so far are in ``folder/parts`` (or in the cache, if one is given), so the same command
    resumes after a kill and ends with the same bytes. If the folder has these embeddings already, they are
    returned as they are. :func:`~idemvox.verification.embed.save_embeddings` says which files there are.

    Args:
        model: the model.
        source: a manifest or audio files; several processes must all see the same files and the same folder.
        folder: a new folder, or one in which the same command was stopped.
        cache: a cache to use as well; ``None``: only what this folder has.
        command: the command, for ``embeddings.json``.
        device: device to embed on.
        progress: show a progress bar.
        how: more arguments of :func:`~idemvox.verification.embed.embed_files`.

    Returns:
        The embeddings, memory-mapped, in rank 0 or without a process group; ``None`` in other processes.

    Raises:
        IdemvoxError: the folder holds something else.
    """
    folder, group, hashed = Path(folder), Group.current(), fingerprint(model.folder)
    about = {"model": hashed, "how": repr(sorted(how.items())), "audio": _hash(source)}
    if not group.agreed(_finished(folder, about)):
        kept = cache or EmbeddingCache(folder / PARTS, hashed, by_content=False)
        found = embed_shared(model.encoder, source, cache=kept, device=device, progress=progress, **how)
        if found is not None:
            more = {"device": str(device), "command": command, "versions": library_versions()}
            save_embeddings(found, folder, {**about, **more})
    if not group.first:
        return None
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return load_embeddings(folder)


def _finished(folder: Path, about: dict[str, str]) -> bool:
    """Return whether a folder has these embeddings; raise an error if it has something else."""
    names = {path.name for path in folder.glob("*")}
    unfinished = {name for name in names if LEFT.fullmatch(name)}
    if names <= {PARTS, MATRIX, IDS, *unfinished}:
        for name in unfinished:
            (folder / name).unlink(missing_ok=True)
        return False
    have = read_json(folder / ABOUT) if ABOUT in names else {}
    if any(have.get(name) != value for name, value in about.items()):
        what = "embeddings of another model, list or kind" if have else "other files"
        raise IdemvoxError(f"{folder} holds {what}: give another folder, or delete this one")
    return True


def _hash(source: Manifest | Sequence[str | Path]) -> str:
    """Return a hash of the ids, the files and their states."""
    if isinstance(source, Manifest):
        paths, rows = [str(source.path(u)) for u in source], [(u.id, u.start, u.seconds) for u in source]
    else:
        paths = [str(path) for path in source]
        rows = [(path, None, 0.0) for path in paths]
    hasher = hashlib.blake2b(file_states(paths).tobytes(), digest_size=16)
    for row in rows:
        hasher.update(repr(row).encode(errors="surrogateescape"))
    return hasher.hexdigest()
