"""Names of speakers and channels."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from idemvox.errors import StoreError, UnknownSpeaker, unknown_name

__all__ = ["checked_name", "printable", "unknown_speaker"]

_WRONG = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, line and paragraph breaks
_LISTED = 20  # most names in a message


def checked_name(text: str, what: str = "speaker", *, empty: bool = False) -> str:
    """Return a name trimmed, in Unicode's composed form (NFC), so that one name has one spelling.

    Raises:
        StoreError: it is empty, or has line breaks or other control characters.

    >>> checked_name(" Zoe\\u0308 ")
    'Zoë'
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name and not empty:
        raise StoreError(f"the name of a {what} is empty: give one")
    if wrong := next((c for c in name if unicodedata.category(c) in _WRONG), None):
        raise StoreError(
            f"the name of a {what} is one line of text, but {name!r} holds {wrong!r}: leave that out"
        )
    return name


def printable(text: str) -> str:
    """Return text with control characters and what is no character replaced by question marks.

    >>> printable("a\nb")
    'a?b'
    """
    return "".join("?" if unicodedata.category(c) in _WRONG else c for c in text)


def unknown_speaker(name: str, names: Sequence[str], where: str) -> UnknownSpeaker:
    """Return the error for a name that is not among the ``names`` of a store; it suggests the nearest."""
    name = name.strip()
    if not names:
        return UnknownSpeaker(f"no speaker {name!r} in {where}; it is empty: `idemvox enrol` adds one")
    if len(names) <= _LISTED:
        return UnknownSpeaker(f"{unknown_name('speaker', name, names)} (in {where})")
    near = next((other for other in names if other.casefold() == name.casefold()), None)
    hint = "" if near is None else f" did you mean {near!r}?"
    return UnknownSpeaker(
        f"no speaker {name!r} in {where};{hint} `idemvox speakers list` shows all {len(names):,}"
    )
