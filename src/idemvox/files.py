"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from idemvox.errors import IdemvoxError

__all__ = ["atomic_write", "full_disk_named", "read_json", "write_json"]

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Say which disk is full, and what to do, where writing to ``path`` fails for want of room."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save makes a RuntimeError of an OSError
        if not any(getattr(e, "errno", None) in _FULL for e in (error, error.__context__)):
            raise
        disk = next(p for p in path.absolute().parents if p.exists())
        free = shutil.disk_usage(disk).free / 2**30
        while not disk.is_mount():
            disk = disk.parent
        raise IdemvoxError(
            f"{path} was not written: its disk, mounted at {disk}, is full or at its quota ({free:.1f} GiB "
            "free); make room there and start again"
        ) from error


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of ``path``; put it in place only when the block ends without an error.

    The data are on disk (fsync) before the name changes, and the name is before this returns, so a reader, a
    killed run or a power cut finds the old file or the new one, never a part.

    Args:
        path: the file to write; its folder is made if missing.
        mode: ``"w"`` (UTF-8 text, newlines kept as written) or ``"wb"``.

    Raises:
        IdemvoxError: if the disk is full; the old file is still there.
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
    """Put the names in a folder on disk, where system and file system can."""
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
    """Read a JSON file; one that is broken raises an error of this class, which names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise broken(f"{path} is not valid JSON ({error}); delete it or restore it") from error
