"""Optional libraries: what is missing, and how to install it."""

from __future__ import annotations

from importlib.util import find_spec

from idemvox.errors import IdemvoxError

__all__ = ["TORCH", "has_torch", "missing_torch", "needs_torch"]

TORCH = ("lightning_fabric", "tensorboard", "torch")
"""The libraries of the extra ``torch``, for training and for models that were not exported."""


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
        raise missing_torch(what)


def missing_torch(what: str) -> IdemvoxError:
    """Return the error for what needs torch where there is none."""
    return IdemvoxError(f"{what} needs torch, which is not installed: pip install 'idemvox[torch]'")
