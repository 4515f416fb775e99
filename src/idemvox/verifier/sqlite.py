"""The speaker store in an SQLite file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import StoreError
from idemvox.verifier.store import FORMAT, SpeakerStore

__all__ = ["SqliteStore"]

Floats = NDArray[np.float32]

_APPLICATION = 0x1DE77017  # in the file's header, so that another program's database is not taken for a store
_WAIT = 30.0  # seconds for another process's transaction
_TABLES = """
CREATE TABLE idemvox_store (
    format INTEGER NOT NULL,
    model TEXT NOT NULL,
    dim INTEGER,
    version INTEGER NOT NULL,
    deletions INTEGER NOT NULL
);
CREATE TABLE idemvox_speakers (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE idemvox_enrolments (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    speaker INTEGER NOT NULL REFERENCES idemvox_speakers (id),
    channel TEXT NOT NULL,
    source TEXT NOT NULL,
    seconds REAL,
    quality REAL,
    narrow INTEGER,
    added TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    embedding BLOB NOT NULL
);
CREATE INDEX idemvox_by_speaker ON idemvox_enrolments (speaker);
"""


class SqliteStore(SpeakerStore):
    """A store in one file, which is made for its owner alone to read.

    The file is in WAL mode: readers and a writer do not wait for each other, and a killed process or a power
    cut loses no finished transaction. WAL needs a local disk, not a network folder. Beside the file are
    ``-wal`` and ``-shm`` while it is open; copy all three or, better, export.

    Args:
        path: the file.
        model: as for :class:`~idemvox.verifier.store.SpeakerStore`.
    """

    def __init__(self, path: str | Path, model: str | None = None) -> None:
        self.path = Path(path)
        self._connection: sqlite3.Connection | None = None
        super().__init__(str(path), model)

    def _open(self, model: str | None) -> None:
        if not self.path.exists():
            if model is None:
                raise StoreError(
                    f"there is no speaker store {self.path}: name its file with --store, or make it by "
                    "enrolling somebody with `idemvox enrol`"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):  # another process was faster
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False
            )
            self._prepare(model)
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self.path} cannot be used as a speaker store: {error}") from error

    def _prepare(self, model: str | None) -> None:
        """Set the connection up; make the tables in an empty file."""
        tables = self._run("SELECT name FROM sqlite_master")  # before the id: another process may make both
        if tables and self._run("PRAGMA application_id") != [(_APPLICATION,)]:
            raise StoreError(f"{self.path} is a database, but not a speaker store: name another file")
        self._write_ahead()
        self._run("PRAGMA synchronous = FULL")
        self._run("PRAGMA secure_delete = ON")
        self._run("PRAGMA foreign_keys = ON")
        with self._transaction(write=model is not None):
            made = self._run("SELECT 1 FROM sqlite_master WHERE name = 'idemvox_store'")
            if not made and model is None:
                raise StoreError(f"{self.path} is empty: make it a store by enrolling with `idemvox enrol`")
            if not made:
                self._run(f"PRAGMA application_id = {_APPLICATION}")
                for statement in _TABLES.split(";")[:-1]:
                    self._run(statement)
                self._run("INSERT INTO idemvox_store VALUES (?, ?, NULL, 0, 0)", (FORMAT, model))

    def _write_ahead(self) -> None:
        """Switch to WAL; SQLite does not wait by itself when several processes switch at once."""
        end = time.monotonic() + _WAIT
        while True:
            try:
                self._run("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._connection is None:
                raise StoreError(f"{self.path} is closed: open it again")
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        with self._lock:
            try:
                self._run("BEGIN IMMEDIATE" if write else "BEGIN")
                yield
                self._run("COMMIT")
            except BaseException as error:
                if self._connection is not None and self._connection.in_transaction:
                    self._run("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError):
                    raise StoreError(f"{self.path}: {error}; nothing was changed, so try again") from error
                raise

    def _encoded(self, embedding: Floats) -> bytes:
        return embedding.astype("<f4").tobytes()

    def _decoded(self, stored: Any) -> Floats:
        return np.frombuffer(stored, "<f4")

    def purge(self) -> None:
        """Empty the write-ahead log, which may hold what was deleted; the file itself was overwritten.

        Raises:
            StoreError: another process kept reading an old state of the store.
        """
        ((busy, _, _),) = self._run("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise StoreError(
                f"deleted, but {self.path}-wal still holds the bytes, because another process reads the "
                "store: they go when all processes have closed it, or with the next deletion"
            )

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
