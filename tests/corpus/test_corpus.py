"""A corpus is the same corpus whether it is packed or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from idemvox.corpus.corpus import open_corpus
from idemvox.corpus.labels import number_labels
from idemvox.corpus.manifest import Manifest, Utterance, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.packs.packed import Lines
from idemvox.errors import IdemvoxError


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pack") / "p"
    pack(corpus.labelled, out, progress=False)
    return out


def test_packed_and_unpacked_are_equal(corpus, folder: Path) -> None:
    files, packed = open_corpus(corpus.labelled), open_corpus(str(folder))
    assert len(files) == len(packed) == 24
    assert list(files.ids) == list(packed.ids) == [u.id for u in corpus.manifest]
    assert list(files.speaker_names) == list(packed.speaker_names) == [f"s{n}" for n in range(6)]
    for name in ("speakers", "recordings"):
        assert np.array_equal(getattr(files, name), getattr(packed, name))
        assert getattr(files, name).dtype == getattr(packed, name).dtype == np.int32
    assert np.array_equal(files.source.lengths, packed.source.lengths)
    one, other = np.zeros(8000, np.int16), np.ones(8000, np.int16)
    for index in (0, 11, 23):
        assert files.source.read_into(index, 3000, one) == packed.source.read_into(index, 3000, other) == 8000
        assert np.array_equal(one, other)


def test_numbers_follow_names_and_recordings_belong_to_speakers() -> None:
    rows = [
        Utterance("1", "a", 1.0, speaker="zoe", recording="r1"),
        Utterance("2", "b", 1.0, speaker="bo", recording="r1"),
        Utterance("3", "c", 1.0, recording="r1"),
        Utterance("4", "d", 1.0, speaker="bo"),
        Utterance("5", "e", 1.0, speaker="zoe", recording="r0"),
        Utterance("6", "f", 1.0, speaker="zoe", recording="r1"),
    ]
    labels = number_labels(rows)
    assert labels.speakers.tolist() == [1, 0, -1, 0, 1, 1] and labels.speaker_names == ("bo", "zoe")
    assert labels.recordings.tolist() == [3, 1, 0, -1, 2, 3]
    assert labels.recording_names == ("r1", "r1", "r0", "r1")


def test_recordings_by_name_only_for_any_speaker(corpus, folder: Path, tmp_path: Path) -> None:
    names = [u.recording for u in corpus.manifest]
    for path in (corpus.labelled, folder):
        found = open_corpus(path).recordings_alone()
        assert found.dtype == np.int64 and len(np.unique(found)) == 2
        assert (np.equal.outer(found, found) == np.equal.outer(names, names)).all()
    rows = [
        replace(u, speaker=None, recording=None if n % 3 else u.recording)
        for n, u in enumerate(corpus.manifest)
    ]
    save_manifest(Manifest(rows, corpus.manifest.root), corpus.labelled.parent / "some_recordings.csv")
    found = open_corpus(corpus.labelled.parent / "some_recordings.csv").recordings_alone()
    assert ((found < 0) == [u.recording is None for u in rows]).all() and found.max() == 1
    assert (open_corpus(corpus.unlabelled).recordings_alone() == -1).all()


def test_ids_of_a_pack_are_read_when_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Lines) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Lines, "_mapped", property(read))
    packed = open_corpus(folder)
    assert len(packed.ids) == 24
    with pytest.raises(AssertionError, match="read"):
        packed.ids[0]


def test_a_corpus_may_have_no_labels(corpus, tmp_path: Path) -> None:
    pack(corpus.unlabelled, tmp_path / "p", progress=False)
    for path in (corpus.unlabelled, tmp_path / "p"):
        found = open_corpus(path)
        assert (found.speakers == -1).all() and list(found.speaker_names) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IdemvoxError, match="no manifest"):
        open_corpus(tmp_path / "none.csv")
    with pytest.raises(IdemvoxError, match="not a finished pack"):
        open_corpus(tmp_path)
    save_manifest(Manifest([], tmp_path), tmp_path / "manifest.csv")
    with pytest.raises(IdemvoxError, match=r"is not a pack; give .*manifest\.csv"):
        open_corpus(tmp_path)
