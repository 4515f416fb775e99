"""Numbers for speakers and recordings, the same for a manifest and its pack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from idemvox.corpus.manifest import Utterance

__all__ = ["Labels", "number_labels"]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Speaker and recording of each utterance as indices of names, -1 if unknown.

    Recordings of two speakers are different even if they have the same name, so ``recording_names`` may
    repeat.

    Attributes:
        speakers: (N,) index of each utterance's speaker.
        recordings: (N,) index of each utterance's recording.
        speaker_names: sorted names.
        recording_names: names sorted by speaker, then by name.
    """

    speakers: npt.NDArray[np.int32]
    recordings: npt.NDArray[np.int32]
    speaker_names: tuple[str, ...]
    recording_names: tuple[str, ...]


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
