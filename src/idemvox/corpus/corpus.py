"""A training corpus, packed or not: audio, ids and, where known, speakers and recordings."""

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
from idemvox.corpus.pseudo import is_pseudo
from idemvox.corpus.several import (
    JoinedNames,
    JoinedSource,
    corpus_names,
    prefixed,
    refuse_parts,
    refuse_repeats,
    refuse_shared,
)
from idemvox.errors import CorpusError

__all__ = ["Corpus", "is_corpus", "is_pack", "open_corpus"]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """N utterances to train on.

    Attributes:
        source: the audio.
        ids: the utterances' names; those of a pack are read when they are used.
        speakers: (N,) index of the speaker in ``speaker_names``, -1 if unknown.
        recordings: (N,) index of the (speaker, recording) pair, -1 if the recording is unknown.
        speaker_names: sorted names.
        recording_names: the recording's name in each (speaker, recording) pair.
        parts: number of utterances from each corpus, by its name, in the order of the utterances.
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

    def true_speakers(self) -> npt.NDArray[np.int32]:
        """Return (N,) the speaker of each utterance, -1 also for a pseudo-speaker, for diagnostics."""
        true = np.array([not is_pseudo(name) for name in self.speaker_names], np.bool_)
        if true.all():
            return self.speakers
        return np.where((self.speakers >= 0) & true[self.speakers], self.speakers, np.int32(-1))

    def recordings_alone(self) -> npt.NDArray[np.int64]:
        """Return (N,) the recording of each utterance by its name only, -1 if unknown.

        Recordings of different speakers with the same name count as one, so the result does not depend on
        speakers.
        """
        if not len(self.recording_names):
            return np.full(len(self), -1, np.int64)
        number: dict[str, int] = {}
        of_pair = np.array([number.setdefault(name, len(number)) for name in self.recording_names], np.int64)
        return np.where(self.recordings < 0, -1, of_pair[self.recordings])


def is_pack(path: str | Path) -> bool:
    """Return whether a path is a pack, not a manifest or a folder of audio."""
    return (Path(path) / HEADER).is_file()


def is_corpus(path: str | Path) -> bool:
    """Return whether :func:`open_corpus` can open a path: a manifest or a pack, not a folder of audio."""
    return is_pack(path) or Path(path).is_file()


def open_corpus(where: str | Path | Sequence[str | Path]) -> Corpus:
    """Open a manifest or a pack, or several as one corpus; a manifest and its pack give the same numbers.

    Several may be manifests and packs in any mixture; their utterances follow the order of the list. Ids,
    speakers and recordings are prefixed with the corpus's name, ``vox1/id10001``, so the same name in two
    corpora means two speakers. A list of one corpus is that corpus, without a prefix.

    Args:
        where: a manifest CSV, a folder written by ``idemvox pack``, or a list of these.

    Raises:
        CorpusError: there is nothing, a manifest is malformed, a pack is not finished, or a corpus or a file
            is in the list twice, by itself or within a joined corpus.
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
    if len(paths) == 1:
        return next(iter(corpora.values()))
    refuse_parts({name: corpus.ids for name, corpus in corpora.items()})
    return _joined(corpora)


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
            f"{folder} is not a pack; give {folder / 'manifest.csv'}, or pack it with `idemvox pack`"
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
    """Concatenate corpora; speakers and recordings get the numbers that one joined manifest would give.

    So numbers follow the prefixed names, and recordings of unknown speakers come first.
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
    """Return the number of recordings without a known speaker; they have the first numbers."""
    return int(corpus.recordings[corpus.speakers < 0].max(initial=-1)) + 1
