"""Errors that the user can fix, one class for each kind of cause."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AlreadyEnrolled",
    "AudioError",
    "CorpusError",
    "IdemvoxError",
    "ModelError",
    "NobodyEnrolled",
    "RecipeError",
    "RunError",
    "StoreError",
    "UnknownSpeaker",
    "unknown_name",
]


class IdemvoxError(Exception):
    """An error the user can fix; the message says what is wrong and what to do.

    The command line prints the message alone, without a traceback, and exits with status 1.
    """


class AudioError(IdemvoxError):
    """A recording cannot be read, or has no usable audio."""


class CorpusError(IdemvoxError):
    """A manifest, pack, public corpus or trial list is missing, damaged, or lacks data that is needed."""


class RecipeError(IdemvoxError):
    """A recipe is missing, or a setting in it is unknown, impossible, or contradicts another."""


class ModelError(IdemvoxError):
    """A model folder cannot be used, or its model gives unusable embeddings."""


class RunError(IdemvoxError):
    """A run cannot start, resume or continue, because of its folder, checkpoints, memory or numbers."""


class StoreError(IdemvoxError):
    """A speaker store is missing, damaged, of another model, or does not have the requested speaker."""


class UnknownSpeaker(StoreError):
    """A speaker store has nobody of this name."""


class AlreadyEnrolled(StoreError):
    """A recording is in a speaker store under another name."""


class NobodyEnrolled(StoreError):
    """A speaker store, or one channel of it, is empty."""


def unknown_name(
    kind: str, name: str, known: Iterable[str], error: type[IdemvoxError] = RecipeError
) -> IdemvoxError:
    """Return an ``error`` for a mistyped name, which suggests the nearest name and lists all.

    >>> print(unknown_name("framework", "simcrl", ["dino", "simclr"]))
    unknown framework 'simcrl'; did you mean 'simclr'? have: dino, simclr
    """
    have = sorted(known)
    close = difflib.get_close_matches(name, have, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return error(f"unknown {kind} {name!r};{hint} have: {', '.join(have)}")
