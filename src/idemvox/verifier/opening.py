"""Open a speaker store by its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idemvox.verifier.postgres import SCHEMES, PostgresStore
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.store import SpeakerStore

__all__ = ["open_store", "opened"]


def open_store(where: str | Path, model: str | None = None, *, create: bool = False) -> SpeakerStore:
    """Open a speaker store.

    Args:
        where: an SQLite file, or the URL of a PostgreSQL database (``postgresql://user@host/database``).
        model: fingerprint of the model in use; a store of another one is refused. ``None``: any.
        create: make the store, for ``model``, if there is none.

    Raises:
        StoreError: there is no store, or it cannot be used.
    """
    made_for = model if create else None
    store: SpeakerStore
    if str(where).startswith(SCHEMES):
        store = PostgresStore(str(where), made_for)
    else:
        store = SqliteStore(where, made_for)
    if model is not None:
        store.expect(model)
    return store


@contextmanager
def opened(
    store: SpeakerStore | str | Path, model: str | None, *, create: bool = False
) -> Iterator[SpeakerStore]:
    """Yield a store that is open already, after the same checks, or one that is open for the block."""
    if isinstance(store, SpeakerStore):
        if model is not None:
            store.expect(model)
        yield store
        return
    with open_store(store, model, create=create) as one:
        yield one
