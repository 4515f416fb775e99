"""The one exception that a user is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["IdemvoxError", "unknown_name"]


class IdemvoxError(Exception):
    """Something the user can put right; the message says what is wrong and what to do.

    The command line prints the message alone, without a traceback, and exits with status 1.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> IdemvoxError:
    """Return the error for a mistyped name: suggests the nearest and lists all.

    >>> print(unknown_name("framework", "simcrl", ["dino", "simclr"]))
    unknown framework 'simcrl'; did you mean 'simclr'? have: dino, simclr
    """
    have = sorted(known)
    close = difflib.get_close_matches(name, have, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return IdemvoxError(f"unknown {kind} {name!r};{hint} have: {', '.join(have)}")
