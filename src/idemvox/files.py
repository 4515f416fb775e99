"""Files: written atomically, so that each is complete or absent; read; hashed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from idemvox.errors import IdemvoxError

__all__ = ["atomic_write", "file_hash", "full_disk_named", "read_json", "write_json"]

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a failure to write ``path`` for lack of space into an error that names the disk and the remedy."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save turns an OSError into a RuntimeError
        if not any(getattr(e, "errno", None) in _FULL for e in (error, error.__context__)):
            raise
        disk = next(p for p in path.absolute().parents if p.exists())
        free = shutil.disk_usage(disk).free / 2**30
        while not disk.is_mount():
            disk = disk.parent
        raise IdemvoxError(
            f"{path} was not written: its disk, mounted at {disk}, is full or at its quota ({free:.1f} GiB "
            "free); free some space there and run the command again"
        ) from error


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; rename it to ``path`` only when the block ends without an error.

    Data are synced to disk (fsync) before the rename, and the rename before this returns. After a kill or a
    power cut, readers find the old file or the new one, never part of one.

    Args:
        path: the file to write; its folder is created if missing.
        mode: ``"w"`` (UTF-8 text, newlines kept as written) or ``"wb"``.

    Raises:
        IdemvoxError: the disk is full; the old file is unchanged.
    """
    path = Path(path)
    with full_disk_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
        try:
            with os.fdopen(descriptor, mode, **text) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
            _sync_names(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _sync_names(folder: Path) -> None:
    """Sync the entries of a folder to disk, where the system supports it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(OSError):
            os.fsync(descriptor)
        os.close(descriptor)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | Path, broken: type[IdemvoxError] = IdemvoxError) -> Any:
    """Read a JSON file; raise ``broken``, naming the file, if it is not valid."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise broken(f"{path} is not valid JSON ({error}); delete it or restore it") from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        IdemvoxError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IdemvoxError(f"cannot read {path}: {error.strerror}") from error
