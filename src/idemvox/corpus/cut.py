"""Cutting long files into utterances."""

from __future__ import annotations

import math
from dataclasses import replace

from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import CorpusError

__all__ = ["cut_long"]


def cut_long(manifest: Manifest, longest: float) -> Manifest:
    """Cut utterances into equal pieces of at most ``longest`` seconds, named ``ID#0``, ``ID#1`` and so on.

    No audio is written: a piece is a part of its file, from ``start``. An utterance of unknown recording is a
    recording of its own, whose name is its id, so its pieces stay together.

    Args:
        manifest: any manifest.
        longest: seconds; a shorter utterance remains whole.

    Raises:
        CorpusError: ``longest`` is not positive, or two pieces have the same id.
    """
    if not longest > 0:
        raise CorpusError(f"the longest piece must have more than 0 seconds, not {longest:g}")
    pieces = [piece for utterance in manifest for piece in _pieces(utterance, longest)]
    if len({piece.id for piece in pieces}) < len(pieces):
        raise CorpusError("two pieces have the same id: rename utterances whose ids end in #N")
    return Manifest(pieces, manifest.root)


def _pieces(utterance: Utterance, longest: float) -> list[Utterance]:
    """Return the pieces of one utterance."""
    own = replace(utterance, recording=utterance.recording or utterance.id)
    count = math.ceil(utterance.seconds / longest - 1e-6)
    if count <= 1:
        return [own]
    length, begin = utterance.seconds / count, utterance.start or 0.0
    return [replace(own, id=f"{own.id}#{n}", seconds=length, start=begin + n * length) for n in range(count)]
