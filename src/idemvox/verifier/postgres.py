"""The speaker store in a PostgreSQL database with pgvector, for several machines."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from idemvox.errors import StoreError
from idemvox.verifier.store import FORMAT, SpeakerStore

if TYPE_CHECKING:
    import psycopg

__all__ = ["SCHEMES", "PostgresStore"]

Floats = NDArray[np.float32]

SCHEMES = ("postgresql://", "postgres://")
_LOCK = 0x1DE77017  # of the transaction that makes the tables
_WAIT = 30.0  # seconds for older transactions
_OLDER = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_xmin IS NOT NULL AND xact_start < ?"
)
_TABLES = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE idemvox_store (
    format INTEGER NOT NULL,
    model TEXT NOT NULL,
    dim INTEGER,
    version BIGINT NOT NULL,
    deletions BIGINT NOT NULL
);
CREATE TABLE idemvox_speakers (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE idemvox_enrolments (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    speaker BIGINT NOT NULL REFERENCES idemvox_speakers (id),
    channel TEXT NOT NULL,
    source TEXT NOT NULL,
    seconds DOUBLE PRECISION,
    quality DOUBLE PRECISION,
    narrow INTEGER,
    added TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    embedding vector NOT NULL
);
CREATE INDEX idemvox_by_speaker ON idemvox_enrolments (speaker);
"""


class PostgresStore(SpeakerStore):
    """A store in three tables of a database; the extra ``postgres`` installs what it needs.

    The tables, ``idemvox_store``, ``idemvox_speakers`` and ``idemvox_enrolments``, are in the first schema of
    the search path. Embeddings are pgvector's ``vector``, so that other programs can search them too. Making
    the tables needs the right to create them and, if the database lacks it, the extension ``vector``. After
    a lost connection one call fails; the next connects again.

    Args:
        url: ``postgresql://user@host/database``; passwords may come from ``PGPASSWORD`` or ``~/.pgpass``.
        model: as for :class:`~idemvox.verifier.store.SpeakerStore`.
    """

    def __init__(self, url: str, model: str | None = None) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None
        self._closed = self._inside = False
        super().__init__(_without_password(url), model)

    def _open(self, model: str | None) -> None:
        with self._transaction(write=True):
            self._run("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
            if self._run("SELECT to_regclass('idemvox_store')::text") != [(None,)]:
                return
            if model is None:
                raise StoreError(
                    f"there is no speaker store in {self.where}: make it by enrolling somebody with "
                    "`idemvox enrol`"
                )
            for statement in _TABLES.split(";")[:-1]:
                self._run(statement)
            self._run("INSERT INTO idemvox_store VALUES (?, ?, NULL, 0, 0)", (FORMAT, model))

    def _connected(self) -> psycopg.Connection[Any]:
        if self._closed:
            raise StoreError(f"{self.where} is closed: open it again")
        if self._connection is None or (self._connection.closed and not self._inside):
            self._connection = _psycopg().connect(self._url, autocommit=True)
        return self._connection

    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                cursor = self._connected().cursor(binary=True)
                cursor.execute(statement.replace("?", "%s").encode(), values)
                return [] if cursor.description is None else cursor.fetchall()
            except _psycopg().Error as error:
                raise StoreError(f"{self.where}: {str(error).strip()}") from error

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        with self._lock:
            self._run("BEGIN" if write else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            self._inside = True
            try:
                yield
                self._run("COMMIT")
            except BaseException:
                if self._connection is not None and not self._connection.closed:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._inside = False

    def _encoded(self, embedding: Floats) -> str:
        return str(embedding.tolist())

    def _decoded(self, stored: Any) -> Floats:
        return np.frombuffer(stored, ">f4", offset=4).astype(np.float32)  # after the number of numbers

    def purge(self) -> None:
        """Rewrite the tables without what was deleted; meanwhile nobody can use them.

        Older transactions in the database are waited for, as far as this user may see them, because they may
        still read what was deleted. The server's write-ahead log and backups hold it for as long as the
        server keeps them.

        Raises:
            StoreError: an older transaction did not end.
        """
        ((began,),) = self._run("SELECT clock_timestamp()")
        end = time.monotonic() + _WAIT
        while self._run(_OLDER, (began,)):
            if time.monotonic() > end:
                raise StoreError(
                    f"deleted, but the tables in {self.where} still hold the bytes, because an older "
                    "transaction is open: they go with the next deletion after its end"
                )
            time.sleep(0.05)
        self._run("VACUUM FULL idemvox_enrolments")
        self._run("VACUUM FULL idemvox_speakers")

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._closed = True


def _psycopg() -> Any:
    """Import psycopg, or say how to install it."""
    try:
        import psycopg
    except ImportError as error:
        raise StoreError("a store in PostgreSQL needs an extra: pip install 'idemvox[postgres]'") from error
    return psycopg


def _without_password(url: str) -> str:
    """Return what may be shown of a URL."""
    psycopg = _psycopg()
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise StoreError(f"this is not the URL of a PostgreSQL database: {str(error).strip()}") from error
    return f"PostgreSQL database {parts.get('dbname', 'by default')!r} on {parts.get('host', 'this machine')}"
