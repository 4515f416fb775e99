"""The speaker store: embeddings of known speakers, by name and channel.

A store holds embeddings as the encoder gives them. A model's back end and calibration are applied when a
recording is compared, so they may be fitted again without enrolling anybody again. Another encoder gives
other embeddings; therefore a store belongs to one model, by its :func:`~idemvox.model.fingerprint`.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from idemvox.errors import AlreadyEnrolled, StoreError
from idemvox.verifier.enrolment import Added, Enrolment, Voiceprint
from idemvox.verifier.names import checked_name, printable, unknown_speaker

__all__ = ["FORMAT", "SpeakerStore"]

Floats = NDArray[np.float32]

FORMAT = 1
"""Version of the tables; newer ones are refused."""
_AT_ONCE = 500  # ids in one statement


class SpeakerStore(ABC):
    """Speakers and their embeddings, in a database that several processes may use at once.

    A speaker has any number of enrolments, each with a channel. A call that changes the store is one
    transaction: it happens as a whole or not at all. Threads may share a store; each process opens its own.
    A store is a context manager.

    Args:
        where: the database, for messages.
        model: fingerprint of the model in use. A new store is made for it, one that holds nobody becomes its
            store, and any other store of another model is refused. ``None``: any model, but the store must
            exist.

    Raises:
        StoreError: there is no store, or it is of another model or of a newer idemvox.
    """

    def __init__(self, where: str, model: str | None) -> None:
        self.where = where
        self._lock = threading.RLock()
        try:
            self._open(model)
            ((format_, self.model),) = self._run("SELECT format, model FROM idemvox_store")
            if format_ > FORMAT:
                raise StoreError(
                    f"{where} has store format {format_}, this idemvox reads up to {FORMAT}: upgrade idemvox"
                )
            if model is not None and model != self.model:
                self._adopt(model)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _open(self, model: str | None) -> None:
        """Connect; create the tables if they are missing and ``model`` is given."""

    @abstractmethod
    def _run(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement with ``?`` for values, and return its rows."""

    @abstractmethod
    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[None]:
        """Hold the lock and a transaction; roll back after an error. All its reads see the same state."""

    @abstractmethod
    def _encoded(self, embedding: Floats) -> Any:
        """Return an embedding as the database stores it."""

    @abstractmethod
    def _decoded(self, stored: Any) -> Floats:
        """Return what :meth:`_encoded` was given."""

    @abstractmethod
    def purge(self) -> None:
        """Overwrite what was deleted, as far as the database allows; :meth:`delete` does it."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _adopt(self, model: str) -> None:
        """Become a store of another model, if it holds nobody."""
        with self._transaction(write=True):
            self._run("UPDATE idemvox_store SET version = version + 1, model = ?, dim = NULL", (model,))
            if self._run("SELECT 1 FROM idemvox_enrolments LIMIT 1"):
                self.expect(model)
            self.model = model

    def expect(self, model: str) -> None:
        """Check that the store is of the model with this fingerprint.

        Raises:
            StoreError: it is of another.
        """
        if model != self.model:
            raise _another_model(self.where, self.model, model)

    @property
    def dim(self) -> int | None:
        """Numbers in an embedding, D; ``None`` as long as nobody was ever enrolled."""
        return self._state()[1]

    def version(self) -> int:
        """Return a number that grows with every change, by whichever process."""
        return self._state()[0]

    def _state(self) -> tuple[int, int | None]:
        """Return the version and D; fail if the store, while it held nobody, became one of another model."""
        ((model, version, dim),) = self._run("SELECT model, version, dim FROM idemvox_store")
        if model != self.model:
            raise _another_model(self.where, model, self.model)
        return version, dim

    def reading(self) -> Any:
        """Return a context in which all reads see the same state of the store."""
        return self._transaction(write=False)

    def enrol(self, name: str, voiceprints: Iterable[Voiceprint], *, channel: str = "") -> Added:
        """Add recordings of a speaker, known or new, in one transaction.

        Args:
            name: any text; see :func:`checked_name`.
            voiceprints: at least one.
            channel: kept apart from other channels, such as ``phone`` and ``headset``.

        Raises:
            StoreError: a recording is enrolled under another name, or an embedding does not fit the store.
        """
        added = self.add((name, channel, voiceprint) for voiceprint in voiceprints)
        if not added.count and not added.known:
            raise StoreError(f"nothing to enrol {name.strip()!r} with: give at least one recording")
        return added

    def add(self, entries: Iterable[tuple[str, str, Voiceprint]]) -> Added:
        """Add (name, channel, voiceprint) of any number of speakers in one transaction."""
        count, known = 0, list[str]()
        ids: dict[str, int] = {}
        with self._transaction(write=True):
            self._run("UPDATE idemvox_store SET version = version + 1")  # other writers wait here
            _, dim = self._state()
            for name, channel, voiceprint in entries:
                name, channel = checked_name(name), checked_name(channel, "channel", empty=True)
                embedding = self._fitting(voiceprint.embedding, dim)
                if dim is None:
                    dim = len(embedding)
                    self._run("UPDATE idemvox_store SET dim = ?", (dim,))
                digest = hashlib.sha256(embedding.astype("<f4").tobytes()).hexdigest()
                if self._enrolled_before(digest, name, voiceprint.source):
                    known.append(voiceprint.source)
                    continue
                if name not in ids:
                    ids[name] = self._speaker(name)
                self._run(
                    "INSERT INTO idemvox_enrolments (speaker, channel, source, seconds, quality, narrow,"
                    " added, digest, embedding) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        ids[name],
                        channel,
                        printable(voiceprint.source),
                        voiceprint.seconds,
                        voiceprint.quality,
                        None if voiceprint.narrow is None else int(voiceprint.narrow),
                        printable(voiceprint.added or datetime.now(UTC).isoformat(timespec="seconds")),
                        digest,
                        self._encoded(embedding),
                    ),
                )
                count += 1
        return Added(count, tuple(known))

    def _fitting(self, embedding: ArrayLike, dim: int | None) -> Floats:
        """Return an embedding as (D,) float32."""
        vector = np.asarray(embedding, np.float32)
        if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
            raise StoreError(
                f"an embedding is (D,) finite numbers, got {vector.shape}: embed the recording again"
            )
        if dim is not None and len(vector) != dim:
            raise StoreError(
                f"{self.where} holds embeddings of {dim} numbers, this one has {len(vector)}: use the model "
                "that the speakers were enrolled with"
            )
        return vector

    def _enrolled_before(self, digest: str, name: str, source: str) -> bool:
        rows = self._run(
            "SELECT s.name FROM idemvox_enrolments e JOIN idemvox_speakers s ON s.id = e.speaker"
            " WHERE e.digest = ?",
            (digest,),
        )
        if rows and rows[0][0] != name:
            raise AlreadyEnrolled(
                f"{source or 'this recording'} is enrolled as {rows[0][0]!r} already, so {name!r} was not "
                f"enrolled: give a recording of {name!r}, or delete {rows[0][0]!r} first"
            )
        return bool(rows)

    def _speaker(self, name: str) -> int:
        """Return the id of a speaker, new or known."""
        find = "SELECT id FROM idemvox_speakers WHERE name = ?"
        if not (rows := self._run(find, (name,))):
            self._run("INSERT INTO idemvox_speakers (name) VALUES (?)", (name,))
            rows = self._run(find, (name,))
        return int(rows[0][0])

    def names(self) -> list[str]:
        """Return the names of all speakers, in alphabetical order."""
        found = [str(name) for (name,) in self._run("SELECT name FROM idemvox_speakers")]
        return sorted(found, key=lambda name: (name.casefold(), name))

    def enrolments(self, name: str | None = None, *, after: int = 0) -> list[Enrolment]:
        """Return the enrolments of one speaker, or of all; each speaker's come together, oldest first.

        Args:
            name: of the speaker.
            after: only enrolments with a higher id, which are newer.

        Raises:
            StoreError: no such speaker; the message suggests a name.
        """
        mine, values = "", list[Any]([after])
        if name is not None:
            mine, values = "AND s.name = ?", [after, checked_name(name)]
        rows = self._run(
            "SELECT e.id, s.name, e.channel, e.source, e.seconds, e.quality, e.narrow, e.added"
            " FROM idemvox_enrolments e JOIN idemvox_speakers s ON s.id = e.speaker"
            f" WHERE e.id > ? {mine} ORDER BY e.speaker, e.id",
            values,
        )
        if name is not None and not rows:
            raise unknown_speaker(name, self.names(), self.where)
        return [Enrolment.of(row) for row in rows]

    def ids(self) -> list[int]:
        """Return the ids of all enrolments."""
        return [i for (i,) in self._run("SELECT id FROM idemvox_enrolments")]

    def deletions(self) -> int:
        """Return the number of deletions so far; as long as it is the same, no enrolment is gone."""
        ((count,),) = self._run("SELECT deletions FROM idemvox_store")
        return int(count)

    def embeddings(self, ids: Sequence[int]) -> Floats:
        """Return (N, D) the embeddings of these enrolments.

        Raises:
            StoreError: one of them has been deleted.
        """
        row_of = {key: row for row, key in enumerate(ids)}
        matrix = np.empty((len(ids), self.dim or 0), np.float32)
        keys = list(row_of)
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(part))
            statement = f"SELECT id, embedding FROM idemvox_enrolments WHERE id IN ({marks})"
            found = self._run(statement, part)
            if len(found) < len(part):
                raise StoreError(f"enrolments were deleted from {self.where} meanwhile: read it again")
            for key, stored in found:
                matrix[row_of[key]] = self._decoded(stored)
        return matrix

    def delete(self, name: str, *, channel: str | None = None) -> int:
        """Delete a speaker, or the enrolments of one channel; return the number of enrolments deleted.

        Their bytes are overwritten in the database (:meth:`purge`); exports and copies of it still hold them.

        Raises:
            StoreError: there is no such speaker or channel.
        """
        name = checked_name(name)
        only, values = ("", ()) if channel is None else (" AND channel = ?", (channel.strip(),))
        mine = "speaker IN (SELECT id FROM idemvox_speakers WHERE name = ?)"
        with self._transaction(write=True):
            self._run("UPDATE idemvox_store SET version = version + 1, deletions = deletions + 1")
            ((count,),) = self._run(
                f"SELECT COUNT(*) FROM idemvox_enrolments WHERE {mine}{only}", (name, *values)
            )
            if not count:
                self._none_to_delete(name, channel)
            self._run(f"DELETE FROM idemvox_enrolments WHERE {mine}{only}", (name, *values))
            self._run(
                "DELETE FROM idemvox_speakers WHERE name = ? AND id NOT IN"
                " (SELECT speaker FROM idemvox_enrolments)",
                (name,),
            )
        self.purge()
        return int(count)

    def _none_to_delete(self, name: str, channel: str | None) -> None:
        """Raise the error for a speaker or channel that is not there."""
        channels = sorted({enrolment.channel or "''" for enrolment in self.enrolments(name)})
        raise StoreError(f"{name!r} has no enrolment in channel {channel!r}; have: {', '.join(channels)}")


def _another_model(where: str, held: str, wanted: str) -> StoreError:
    """Return the error for a store of another model than wanted."""
    return StoreError(
        f"{where} holds embeddings of another model ({held[:12]}, not {wanted[:12]}); those of two models "
        "cannot be compared: use the model that the speakers were enrolled with, or enrol them again in a "
        "new store"
    )
