"""What training learns from, packed or not: audio, ids and, where known, who speaks in which recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from idemvox.corpus.crops import AudioSource, FileSource
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest, load_manifest
from idemvox.corpus.packs.packed import HEADER, IDS, RECORDINGS, SPEAKERS, Lines, PackedSource
from idemvox.corpus.several import (
    JoinedNames,
    JoinedSource,
    corpus_names,
    prefixed,
    refuse_repeats,
    refuse_shared,
)
from idemvox.errors import CorpusError

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
        parts: how many utterances come from each corpus, by its name, in the order of the utterances.
    """

    source: AudioSource
    ids: Sequence[str]
    speakers: npt.NDArray[np.int32]
    recordings: npt.NDArray[np.int32]
    speaker_names: Sequence[str]
    recording_names: Sequence[str]
    parts: Mapping[str, int]

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


def open_corpus(where: str | Path | Sequence[str | Path]) -> Corpus:
    """Open a manifest or a pack, or several as one; a manifest and its pack give the same numbers.

    Of several, manifests and packs in any mixture, the utterances come in the order of the list.  Ids,
    speakers and recordings get the corpus's name in front, ``vox1/id10001``: whoever has one name in two
    corpora is two speakers.  A list of one is that one, without its name.

    Args:
        where: a manifest CSV, a folder that ``idemvox pack`` wrote, or a list of such.

    Raises:
        CorpusError: nothing there, a bad manifest, no finished pack, or a corpus or a file that is in the
            list twice.
    """
    paths = [Path(where)] if isinstance(where, str | Path) else [Path(path) for path in where]
    manifests = {path: load_manifest(path) for path in paths if not path.is_dir()}
    if len(paths) > 1:
        refuse_repeats(paths)
    names = dict(zip(corpus_names(paths), paths, strict=True))
    if len(manifests) > 1:
        refuse_shared({name: manifests[path] for name, path in names.items() if path in manifests})
    corpora = {
        name: _listed(name, manifests[path]) if path in manifests else _packed(name, path)
        for name, path in names.items()
    }
    return _joined(corpora) if len(paths) > 1 else next(iter(corpora.values()))


def _listed(name: str, manifest: Manifest) -> Corpus:
    labels = number_labels(manifest)
    return Corpus(
        FileSource(manifest),
        tuple(u.id for u in manifest),
        labels.speakers,
        labels.recordings,
        labels.speaker_names,
        labels.recording_names,
        {name: len(manifest)},
    )


def _packed(name: str, folder: Path) -> Corpus:
    if not (folder / HEADER).exists() and (folder / "manifest.csv").exists():
        raise CorpusError(
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
        {name: len(source)},
    )


def _joined(corpora: Mapping[str, Corpus]) -> Corpus:
    """Put corpora one after the other; numbers are those of one manifest of them all.

    So the numbers go by the names with the corpus's in front, and recordings of unknown speakers come first.
    """
    if empty := [name for name, corpus in corpora.items() if not len(corpus)]:
        raise CorpusError(f"the corpus {empty[0]} has no utterances; leave it out")
    by_name = dict(sorted(corpora.items(), key=lambda item: prefixed(item[0], "")))
    loose = {name: _loose_recordings(corpus) for name, corpus in corpora.items()}
    speakers: dict[str, npt.NDArray[np.int32]] = {}
    recordings: dict[str, npt.NDArray[np.int32]] = {}
    first, without, within = 0, 0, sum(loose.values())  # the next free numbers
    for name, corpus in by_name.items():
        speakers[name] = np.where(corpus.speakers < 0, -1, corpus.speakers + first).astype(np.int32)
        number = corpus.recordings
        shifted = np.where(number < loose[name], number + without, number - loose[name] + within)
        recordings[name] = np.where(number < 0, -1, shifted).astype(np.int32)
        first += len(corpus.speaker_names)
        without += loose[name]
        within += len(corpus.recording_names) - loose[name]
    halves = [
        *((name, corpus.recording_names[: loose[name]]) for name, corpus in by_name.items()),
        *((name, corpus.recording_names[loose[name] :]) for name, corpus in by_name.items()),
    ]
    return Corpus(
        JoinedSource([corpus.source for corpus in corpora.values()]),
        JoinedNames([(name, corpus.ids) for name, corpus in corpora.items()]),
        np.concatenate([speakers[name] for name in corpora]),
        np.concatenate([recordings[name] for name in corpora]),
        JoinedNames([(name, corpus.speaker_names) for name, corpus in by_name.items()]),
        JoinedNames(halves),
        {name: len(corpus) for name, corpus in corpora.items()},
    )


def _loose_recordings(corpus: Corpus) -> int:
    """How many recordings have no known speaker; theirs are the first numbers."""
    return int(corpus.recordings[corpus.speakers < 0].max(initial=-1)) + 1
