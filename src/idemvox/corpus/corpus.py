"""What training learns from, packed or not: audio, ids and, where known, who speaks in which recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idemvox.corpus.crops import AudioSource, FileSource
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import load_manifest
from idemvox.corpus.packs.packed import HEADER, IDS, RECORDINGS, SPEAKERS, Lines, PackedSource
from idemvox.errors import IdemvoxError

__all__ = ["Corpus", "is_corpus", "is_pack", "open_corpus"]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """N utterances.

    Attributes:
        source: their audio.
        ids: their names; those of a pack are read when one is asked for.
        speakers: (N,) number of the speaker in ``speaker_names``, -1 where unknown.
        recordings: (N,) number of the (speaker, recording) pair, -1 where the recording is unknown.
        speaker_names: sorted.
        recording_names: the name in each (speaker, recording) pair.
    """

    source: AudioSource
    ids: Sequence[str]
    speakers: npt.NDArray[np.int32]
    recordings: npt.NDArray[np.int32]
    speaker_names: Sequence[str]
    recording_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.source)

    def recordings_alone(self) -> npt.NDArray[np.int64]:
        """Return (N,) the recording of each utterance by name alone, -1 where unknown.

        Two speakers in recordings of one name are in one recording here: who speaks has no part in it.
        """
        if not len(self.recording_names):
            return np.full(len(self), -1, np.int64)
        number: dict[str, int] = {}
        of_pair = np.array([number.setdefault(name, len(number)) for name in self.recording_names], np.int64)
        return np.where(self.recordings < 0, -1, of_pair[self.recordings])


def is_pack(path: str | Path) -> bool:
    """Tell a pack from a manifest, or from a folder of audio."""
    return (Path(path) / HEADER).is_file()


def is_corpus(path: str | Path) -> bool:
    """Tell what :func:`open_corpus` opens, a manifest or a pack, from a folder of audio."""
    return is_pack(path) or Path(path).is_file()


def open_corpus(path: str | Path) -> Corpus:
    """Open a manifest or a pack; the numbers in it are the same for both.

    Args:
        path: a manifest CSV, or a folder that ``idemvox pack`` wrote.

    Raises:
        IdemvoxError: nothing there, a bad manifest, or no finished pack.
    """
    path = Path(path)
    if path.is_dir():
        return _packed(path)
    manifest = load_manifest(path)
    labels = number_labels(manifest)
    return Corpus(
        FileSource(manifest),
        tuple(u.id for u in manifest),
        labels.speakers,
        labels.recordings,
        labels.speaker_names,
        labels.recording_names,
    )


def _packed(folder: Path) -> Corpus:
    if not (folder / HEADER).exists() and (folder / "manifest.csv").exists():
        raise IdemvoxError(
            f"{folder} is no pack; give {folder / 'manifest.csv'}, or pack it with `idemvox pack`"
        )
    source = PackedSource(folder)
    return Corpus(
        source,
        Lines(source.folder / IDS, len(source)),
        np.ascontiguousarray(source.index["speaker"], dtype=np.int32),
        np.ascontiguousarray(source.index["recording"], dtype=np.int32),
        Lines(source.folder / SPEAKERS, source.header.speakers),
        Lines(source.folder / RECORDINGS, source.header.recordings),
    )
