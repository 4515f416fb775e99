"""The audit log: who asked for what, and the answer, in a line of JSON, without audio or embeddings."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from idemvox.errors import IdemvoxError

__all__ = ["AuditLog", "Note", "pseudonym"]


@dataclass(slots=True)
class Note:
    """What the audit log says about a request.

    Attributes:
        request: id, which the client gets too.
        who: name of the API key; ``local`` if there are no keys.
        speaker: pseudonym of the speaker who was named, or found.
        decision: such as ``accept``, ``nobody``, ``enrolled``.
        llr: log-likelihood ratio.
        error: code of the problem.
    """

    request: str
    who: str | None = None
    speaker: str | None = None
    decision: str | None = None
    llr: float | None = None
    error: str | None = None


def pseudonym(name: str) -> str:
    """Return what stands for a speaker in the log: the first 16 digits of the SHA-256 of the name.

    Whoever knows a name can find its lines (``printf %s Anna | sha256sum``); names cannot be read off them,
    but a guess can be tested.

    >>> pseudonym("Anna")
    'bf4fccd616251b67'
    """
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class AuditLog:
    """Appends lines to a file that its owner alone can read; several threads may use it.

    Args:
        where: the file, ``-`` for standard output, or ``None`` for no log.

    Raises:
        IdemvoxError: the file cannot be written.
    """

    def __init__(self, where: str | None) -> None:
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        if where == "-":
            self._file = sys.stdout
        elif where is not None:
            try:
                Path(where).parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(where, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            except OSError as error:
                raise IdemvoxError(f"cannot write the audit log {where}: {error.strerror}") from error
            self._file = os.fdopen(descriptor, "a", encoding="utf-8")

    def write(self, note: Note, route: str, status: int, seconds: float) -> None:
        """Write the line of a request."""
        if self._file is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request": note.request,
            "route": route,
            "status": status,
            "who": note.who,
            "speaker": note.speaker,
            "decision": note.decision,
            "llr": None if note.llr is None else round(note.llr, 4),
            "error": note.error,
            "ms": round(1000 * seconds, 1),
        }
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and self._file is not sys.stdout:
            self._file.close()
        self._file = None
