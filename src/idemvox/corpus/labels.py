"""Speakers and recordings as numbers, counted the same way wherever a corpus is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idemvox.corpus.manifest import Utterance

__all__ = ["Labels", "number_labels"]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Who speaks and in which recording: numbers of names, -1 where unknown.

    Two speakers' recordings of one name are two recordings, so ``recording_names`` may repeat itself.
    """

    speakers: npt.NDArray[np.int32]  # (N,)
    recordings: npt.NDArray[np.int32]  # (N,)
    speaker_names: tuple[str, ...]  # sorted
    recording_names: tuple[str, ...]  # by speaker, then sorted


def number_labels(utterances: Iterable[Utterance]) -> Labels:
    """Number the speakers in order of name, and the recordings in order of (speaker, name)."""
    rows = list(utterances)
    speakers = sorted({u.speaker for u in rows if u.speaker is not None})
    pairs = sorted({(u.speaker or "", u.recording) for u in rows if u.recording is not None})
    speaker = {name: number for number, name in enumerate(speakers)}
    recording = {pair: number for number, pair in enumerate(pairs)}
    return Labels(
        np.array([-1 if u.speaker is None else speaker[u.speaker] for u in rows], dtype=np.int32),
        np.array(
            [-1 if u.recording is None else recording[u.speaker or "", u.recording] for u in rows],
            dtype=np.int32,
        ),
        tuple(speakers),
        tuple(name for _, name in pairs),
    )
