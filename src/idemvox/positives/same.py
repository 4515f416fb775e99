"""The usual positive: another crop of the same utterance."""

from __future__ import annotations

from dataclasses import dataclass

from idemvox.positives.base import Positives
from idemvox.registry import POSITIVES

__all__ = ["Same"]


@POSITIVES.register("same")
class Same(Positives):
    """Keep the target, as plain SimCLR and DINO do."""

    @dataclass(frozen=True, slots=True)
    class Options:
        """There are no options."""
