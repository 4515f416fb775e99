"""The exceptions that a user is meant to read, by what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AudioError",
    "CorpusError",
    "IdemvoxError",
    "ModelError",
    "RecipeError",
    "RunError",
    "unknown_name",
]


class IdemvoxError(Exception):
    """Something the user can put right; the message says what is wrong and what to do.

    The command line prints the message alone, without a traceback, and exits with status 1.
    """


class AudioError(IdemvoxError):
    """A recording cannot be read, or there is nothing in it to work with."""


class CorpusError(IdemvoxError):
    """A manifest, pack, public corpus or trial list is missing, damaged, or lacks what is asked of it."""


class RecipeError(IdemvoxError):
    """A recipe is not there, or a setting in it is unknown, impossible, or at odds with another."""


class ModelError(IdemvoxError):
    """A model folder cannot be used, or the model in it gives no usable embeddings."""


class RunError(IdemvoxError):
    """A run cannot start, resume or go further: its folder, its checkpoints, its memory, its numbers."""


def unknown_name(
    kind: str, name: str, known: Iterable[str], error: type[IdemvoxError] = RecipeError
) -> IdemvoxError:
    """Return the error for a mistyped name, one of this class: suggests the nearest and lists all.

    >>> print(unknown_name("framework", "simcrl", ["dino", "simclr"]))
    unknown framework 'simcrl'; did you mean 'simclr'? have: dino, simclr
    """
    have = sorted(known)
    close = difflib.get_close_matches(name, have, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return error(f"unknown {kind} {name!r};{hint} have: {', '.join(have)}")
