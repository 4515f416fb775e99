"""Export a speaker store to a file, and import it into another: JSON lines, which hold no code.

The first line says the format, its version, the model's fingerprint and the number of enrolments. Every other
line is one enrolment; its embedding is the base64 of little-endian float32 numbers.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from idemvox.errors import StoreError
from idemvox.files import atomic_write
from idemvox.progress import task_bar
from idemvox.verifier.enrolment import Added, Voiceprint
from idemvox.verifier.store import SpeakerStore

__all__ = ["export_speakers", "exported_model", "import_speakers"]

NAME, VERSION = "idemvox speakers", 1
_AT_ONCE = 1000  # enrolments read at a time


class _Header(BaseModel):
    """The first line."""

    model_config = ConfigDict(strict=True)
    format: str
    version: int
    model: str
    enrolments: int


class _Line(BaseModel):
    """An enrolment."""

    model_config = ConfigDict(strict=True, extra="forbid")
    speaker: str
    channel: str
    source: str
    seconds: float | None = Field(allow_inf_nan=False)
    quality: float | None = Field(allow_inf_nan=False)
    narrow: bool | None
    added: str
    embedding: str


def export_speakers(store: SpeakerStore, path: str | Path, *, progress: bool = False) -> int:
    """Write all enrolments of a store to a file, as they are at one moment; return their number."""
    with store.reading(), atomic_write(path) as file:
        enrolments = store.enrolments()
        header = _Header(format=NAME, version=VERSION, model=store.model, enrolments=len(enrolments))
        file.write(header.model_dump_json() + "\n")
        with task_bar("exporting", len(enrolments), progress) as bar:
            for start in range(0, len(enrolments), _AT_ONCE):
                part = enrolments[start : start + _AT_ONCE]
                matrix = store.embeddings([enrolment.id for enrolment in part]).astype("<f4")
                for enrolment, embedding in zip(part, matrix, strict=True):
                    line = _Line(
                        speaker=enrolment.speaker,
                        channel=enrolment.channel,
                        source=enrolment.source,
                        seconds=enrolment.seconds,
                        quality=enrolment.quality,
                        narrow=enrolment.narrow,
                        added=enrolment.added,
                        embedding=base64.b64encode(embedding.tobytes()).decode(),
                    )
                    file.write(line.model_dump_json() + "\n")
                bar.advance(bar.task_ids[0], len(part))
    return len(enrolments)


def exported_model(path: str | Path) -> str:
    """Return the fingerprint of the model that the embeddings in an exported file are of."""
    with closing(_opened(path)) as file:
        return _header(file, path).model


def import_speakers(store: SpeakerStore, path: str | Path, *, progress: bool = False) -> Added:
    """Add the enrolments of an exported file to a store, all of them or, after an error, none.

    Enrolments that the store has already are not added again.

    Raises:
        StoreError: the file is damaged or cut short, of another model, or a recording in it is enrolled under
            another name.
    """
    with closing(_opened(path)) as file:
        header = _header(file, path)
        if header.model != store.model:
            raise StoreError(
                f"{path} holds embeddings of another model ({header.model[:12]}) than {store.where} "
                f"({store.model[:12]}): import it into a new store"
            )
        with task_bar("importing", header.enrolments, progress) as bar:

            def entries() -> Iterator[tuple[str, str, Voiceprint]]:
                count = 0
                for count, text in enumerate(file, 1):
                    yield _entry(text, f"{path}, line {count + 1}")
                    bar.advance(bar.task_ids[0])
                if count != header.enrolments:
                    raise StoreError(
                        f"{path} has {count:,} enrolments, but its first line says {header.enrolments:,}: "
                        "export it again"
                    )

            return store.add(entries())


def _opened(path: str | Path) -> IO[str]:
    try:
        return Path(path).open(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error


def _header(file: IO[str], path: str | Path) -> _Header:
    try:
        text = file.readline(10_000)
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise StoreError(
            f"{path} was not written by `idemvox speakers export`: its first line is not the right one"
        ) from error
    if header.format != NAME or header.version > VERSION:
        raise StoreError(
            f"{path} has format {header.format!r} version {header.version}, this idemvox reads {NAME!r} "
            f"up to version {VERSION}: upgrade idemvox, or name another file"
        )
    return header


def _entry(text: str, where: str) -> tuple[str, str, Voiceprint]:
    """Return name, channel and voiceprint of a line."""
    try:
        values: Any = json.loads(text)
        line = _Line.model_validate(values)
        embedding = np.frombuffer(base64.b64decode(line.embedding, validate=True), "<f4")
    except (ValidationError, ValueError) as error:
        raise StoreError(f"{where} is damaged: nothing was imported; export the speakers again") from error
    facts = (line.source, line.seconds, line.quality, line.narrow, line.added)
    return line.speaker, line.channel, Voiceprint(embedding, *facts)
