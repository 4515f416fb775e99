"""Optional libraries: what is missing, and how to install it."""

from __future__ import annotations

from importlib.util import find_spec

from idemvox.errors import IdemvoxError

__all__ = ["has_torch", "needs_torch"]


def has_torch() -> bool:
    """Return whether torch is installed."""
    return find_spec("torch") is not None


def needs_torch(what: str) -> None:
    """Check that torch is installed.

    Args:
        what: what needs it, to begin the message with.

    Raises:
        IdemvoxError: it is not.
    """
    if not has_torch():
        raise IdemvoxError(f"{what} needs torch, which is not installed: pip install 'idemvox[torch]'")
