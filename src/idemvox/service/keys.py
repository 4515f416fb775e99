"""API keys: who may use a service."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from idemvox.errors import IdemvoxError

__all__ = ["ENVIRONMENT", "Keys", "load_keys"]

ENVIRONMENT = "IDEMVOX_API_KEY"
"""The environment variable with a single key."""
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class Keys:
    """Names and SHA-256 hashes of keys; without any, everybody is let in.

    Attributes:
        hashes: name -> hash.
    """

    hashes: Mapping[str, bytes]

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def holder(self, key: str) -> str | None:
        """Return whose key it is; ``None`` if it is nobody's. The time tells nothing about the keys."""
        given, found = _hash(key), None
        for name, known in self.hashes.items():
            if hmac.compare_digest(given, known):
                found = name
        return found


def load_keys(file: Path | None, environment: Mapping[str, str]) -> Keys:
    """Read the keys from a file, and the one of the environment, whose holder is called ``default``.

    Each line of the file is ``name: key``; empty lines, and those that begin with ``#``, do not count.

    Raises:
        IdemvoxError: a line is not like that, a key is short or is there twice, or there is none.
    """
    found: dict[str, bytes] = {}
    if key := environment.get(ENVIRONMENT):
        _add(found, "default", key, ENVIRONMENT)
    if file is None:
        return Keys(found)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IdemvoxError(f"cannot read the API keys in {file}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, key = line.partition(":")
        if not colon or not name.strip():
            raise IdemvoxError(f"{file}, line {number}: write a name, a colon and the key")
        _add(found, name.strip(), key.strip(), f"{file}, line {number}")
    if not found:
        raise IdemvoxError(f"{file} has no API key: write lines of a name, a colon and a key")
    return Keys(found)


def _add(found: dict[str, bytes], name: str, key: str, where: str) -> None:
    if len(key) < _SHORTEST or not key.isascii() or not key.isprintable():
        raise IdemvoxError(
            f"{where}: a key has {_SHORTEST} or more letters and digits; `openssl rand -hex 24` makes one"
        )
    if name in found or _hash(key) in found.values():
        raise IdemvoxError(f"{where}: this name or key occurs twice; give each holder a different one")
    found[name] = _hash(key)


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
