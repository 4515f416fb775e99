"""A cache of embeddings on disk, by the model and by the audio.

An embedding is found by two hashes. The first one names a folder: it covers the weights and settings of the
model (:func:`~idemvox.model.fingerprint`), what was embedded (whole utterances, crops, precision), the kind
of device, the versions of the libraries that decode and compute, and idemvox's own code for audio and
encoders, so that an edited encoder reuses nothing. The second one is of the audio: the bytes of the file, and
which part of it. So a corpus may be moved or renamed, and a list of it may have other ids.

Hashing a million files means reading all of them, as long as embedding them on a GPU may take. So the hash of
each file is stored with its path, its size and the time of its last change; a file for which these are the
same is not read again, as with make and rsync. A file that changed within the last two seconds is not stored,
since it could change again at what the file system takes for the same time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import AudioError
from idemvox.files import write_json
from idemvox.model import Model, fingerprint
from idemvox.processes import read_ahead
from idemvox.progress import task_bar
from idemvox.verification.embedding.group import Group
from idemvox.verification.embedding.jobs import Job
from idemvox.verification.embedding.table import KEY_BYTES, Keys, Table

__all__ = ["EmbeddingCache", "file_states"]

ABOUT, FILES = "about.json", "files"
_LIBRARIES = ("idemvox", "torch", "onnxruntime", "soundfile", "soxr", "av")
_RECENT = 2_000_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class EmbeddingCache:
    """Where embeddings of one model are kept and looked up.

    It holds embeddings, which are biometric data of the people who speak; delete the folder to delete them.

    Attributes:
        folder: the cache; models share it.
        model: fingerprint of the model.
        by_content: whether audio is known by the bytes of its file; otherwise by path, size and time of
            change alone, which reads nothing and is enough for one list.
    """

    folder: Path
    model: str
    by_content: bool = True

    @classmethod
    def of(cls, model: Model, folder: str | Path) -> EmbeddingCache:
        """Return the cache of a loaded model; its weights must be as they were loaded."""
        return cls(Path(folder), fingerprint(model.folder))

    def table(self, of: str, runtime: str) -> Table:
        """Return the table of the embeddings, in a folder that says what they are.

        Args:
            of: what is embedded, :attr:`~idemvox.verification.embed.Embeddings.of`.
            runtime: what computes it: ``cpu``, ``cuda``, ..., or ``onnxruntime``.
        """
        about = {
            "model": self.model,
            "of": of,
            "runtime": runtime,
            "code": _code(),
            "versions": {name: _version(name) for name in _LIBRARIES},
        }
        folder = self.folder / _hash(repr(about).encode()).hex()
        if not (folder / ABOUT).is_file():
            write_json(folder / ABOUT, about)
        return Table(folder)

    def keys(self, jobs: Sequence[Job], group: Group, workers: int, progress: bool) -> Keys:
        """Return (N, 16) the key of the audio of each job; files that are not known are read.

        Args:
            jobs: what is to be embedded.
            group: processes that share the files; all get all keys.
            workers: threads that read.
            progress: show a progress bar.

        Raises:
            AudioError: a file cannot be read.
        """
        paths = list(dict.fromkeys(job.path for job in jobs))
        mine = group.share(paths)
        files = file_states(mine)
        if self.by_content:
            files = self._contents(mine, files, workers, progress)
        numbers = group.collect(group.share(np.arange(len(paths))))
        files = group.collect(files)[np.argsort(numbers)]
        number = {path: row for row, path in enumerate(paths)}
        file = files[[number[job.path] for job in jobs]]
        part = np.array([(job.start, -1 if job.samples is None else job.samples) for job in jobs], "<i8")
        return _stacked([_hash(row.tobytes()) for row in np.concatenate([file, part.view(np.uint8)], axis=1)])

    def _contents(self, paths: Sequence[str], states: Keys, workers: int, progress: bool) -> Keys:
        """Return (N, 16) the hash of the bytes of each file; ``states`` as from :func:`file_states`."""
        table = Table(self.folder / FILES)
        places = table.find(states)
        hashes = np.zeros((len(paths), KEY_BYTES), np.uint8)
        known, unknown = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        for which, rows in table.rows(places[known]):
            hashes[known[which]] = rows
        read = read_ahead(_content, [paths[i] for i in unknown.tolist()], workers, 4 * workers)
        try:
            with closing(read), task_bar("hashing files", len(unknown), progress and len(unknown) > 0) as bar:
                for row, (content, settled) in zip(unknown, read, strict=True):
                    hashes[row] = np.frombuffer(content, np.uint8)
                    if settled:
                        table.add(states[row : row + 1], hashes[row : row + 1])
                    bar.advance(bar.task_ids[0])
        finally:
            table.flush()
        return hashes


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def file_states(paths: Sequence[str]) -> Keys:
    """Return (N, 16) a hash of the path, size and time of last change of each file.

    Raises:
        AudioError: there is no such file.
    """
    return _stacked([_hash(_state(path)) for path in paths])


def _state(path: str) -> bytes:
    try:
        found = os.stat(path)
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}; check the path, or leave it out") from error
    return repr((os.path.abspath(path), found.st_size, found.st_mtime_ns)).encode(errors="surrogateescape")


def _content(path: str) -> tuple[bytes, bool]:
    """Return the hash of a file's bytes, and whether it last changed long enough ago."""
    try:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=KEY_BYTES)).digest()
            return content, time.time_ns() - os.fstat(file.fileno()).st_mtime_ns > _RECENT
    except OSError as error:
        raise AudioError(f"cannot read {path}: {error.strerror}; check the path, or leave it out") from error


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=KEY_BYTES).digest()


def _stacked(hashes: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, KEY_BYTES)


@cache
def _code() -> str:
    """Return a hash of the code that reads audio and embeds it."""
    package = Path(__file__).parents[2]
    sources = sorted(path for part in ("audio", "encoders") for path in (package / part).rglob("*.py"))
    return _hash(b"".join(path.read_bytes() for path in sources)).hex()
