"""Several corpora equal their joined manifest; equal names in two of them are not merged."""

from __future__ import annotations

import csv
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from idemvox.audio.read import read, write_wav
from idemvox.cli import app
from idemvox.corpus.corpus import Corpus, open_corpus
from idemvox.corpus.join import join_manifests
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.packs.pack import pack
from idemvox.corpus.packs.packed import Lines
from idemvox.corpus.prepare import prepare_table
from idemvox.corpus.several import corpus_names
from idemvox.errors import IdemvoxError


def write_corpus(root: Path, seed: int, rows: list[tuple[str | None, str | None]]) -> Path:
    """Write utterances u0, u1, ... of (speaker, recording), each of other noise; return their manifest."""
    rng = np.random.default_rng(seed)
    for n in range(len(rows)):
        write_wav(root / "wav" / f"u{n}.wav", 0.1 * rng.standard_normal(3200 + 160 * n))
    utterances = [
        Utterance(f"u{n}", f"wav/u{n}.wav", 0.2 + 0.01 * n, speaker=speaker, recording=recording)
        for n, (speaker, recording) in enumerate(rows)
    ]
    save_manifest(Manifest(utterances, root), root / "manifest.csv")
    return root / "manifest.csv"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three corpora that share every name; their order is not that of their names, which differ late."""
    root = tmp_path_factory.mktemp("several")
    return [
        write_corpus(root / "vox2", 1, [("b", "r1"), ("a", "r1"), (None, "r1"), ("b", None), (None, "r0")]),
        write_corpus(root / "vox", 2, [("a", "r1"), (None, None), (None, "r1"), ("c", "r0")]),
        write_corpus(root / "vox-1", 3, [("a", "r0"), ("a", "r1")]),
    ]


def assert_same(one: Corpus, other: Corpus) -> None:
    assert list(one.ids) == list(other.ids)
    assert list(one.speaker_names) == list(other.speaker_names)
    assert list(one.recording_names) == list(other.recording_names)
    for name in ("speakers", "recordings"):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype == np.int32 and found.tolist() == expected.tolist()
    assert one.recordings_alone().tolist() == other.recordings_alone().tolist()
    assert one.source.lengths.tolist() == other.source.lengths.tolist()
    for index in range(len(one)):
        mine, its = np.zeros(1000, np.int16), np.ones(1000, np.int16)
        assert one.source.read_into(index, 2600, mine) == other.source.read_into(index, 2600, its)
        assert np.array_equal(mine[:600], its[:600]) and mine[:600].any()


def test_a_list_equals_the_joined_manifest_packed_or_not(three: list[Path], tmp_path: Path) -> None:
    joined = join_manifests(three, tmp_path / "elsewhere" / "all.csv", progress=False).manifest
    packs = [tmp_path / "packs" / path.parent.name for path in three]
    for path, folder in zip(three, packs, strict=True):
        pack(path, folder, progress=False)
    expected = open_corpus(joined)
    for paths in (three, packs, [packs[0], three[1], str(packs[2])]):
        found = open_corpus(paths)
        assert_same(found, expected)
        assert found.parts == {"vox2": 5, "vox": 4, "vox-1": 2}
    assert expected.parts == {"all": 11}
    assert list(found.ids)[3:6] == found.ids[3:6] == ["vox2/u3", "vox2/u4", "vox/u0"]
    assert (found.ids[-1], len(found.ids)) == ("vox-1/u1", 11)
    with pytest.raises(IndexError):
        found.ids[11]
    again = pickle.loads(pickle.dumps(found.source))
    assert again.lengths.tolist() == found.source.lengths.tolist()


def test_equal_names_in_two_corpora_are_not_merged(three: list[Path]) -> None:
    found = open_corpus(three)
    assert list(found.speaker_names) == ["vox-1/a", "vox/a", "vox/c", "vox2/a", "vox2/b"]
    of = [found.speaker_names[n] if n >= 0 else None for n in found.speakers.tolist()]
    assert of == [
        *("vox2/b", "vox2/a", None, "vox2/b", None),
        *("vox/a", None, None, "vox/c"),
        *("vox-1/a", "vox-1/a"),
    ]
    names = [found.recording_names[n] if n >= 0 else None for n in found.recordings.tolist()]
    assert names == [
        *("vox2/r1", "vox2/r1", "vox2/r1", None, "vox2/r0"),
        *("vox/r1", None, "vox/r1", "vox/r0"),
        *("vox-1/r0", "vox-1/r1"),
    ]
    alone = found.recordings_alone()
    assert len({*alone[[0, 1, 2]].tolist()}) == 1 and len({*alone[[0, 5, 10]].tolist()}) == 3


def test_ids_of_packs_are_read_when_needed(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in three[:2]:
        pack(path, tmp_path / path.parent.name, progress=False)
    opened = Lines._mapped.func  # type: ignore[attr-defined]

    def mapped(self: Lines) -> object:
        assert self._file.name != "ids.txt", "read"
        return opened(self)

    monkeypatch.setattr(Lines, "_mapped", property(mapped))
    found = open_corpus([tmp_path / "vox2", tmp_path / "vox"])
    assert len(found.ids) == 9
    with pytest.raises(AssertionError, match="read"):
        found.ids[0]


def test_a_list_of_one_corpus_equals_that_corpus(three: list[Path]) -> None:
    assert_same(open_corpus(three[:1]), open_corpus(three[0]))
    assert open_corpus(three[:1]).ids[0] == "u0" and open_corpus(three[0]).parts == {"vox2": 5}


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["vox1.csv", "lists/vox2.csv"], ["vox1", "vox2"]),
        (["a/train.csv", "b/train.csv", "train2.csv"], ["a-train", "b-train", "train2"]),
        (["x/a/train.csv", "y/a/train.csv"], ["x-a-train", "y-a-train"]),
        (["a/manifest.csv", "b/manifest.csv"], ["a", "b"]),
        (["a/../b/vox1.dev.csv", "packs/vox1"], ["vox1.dev", "vox1"]),
    ],
)
def test_corpora_are_named_by_their_paths(
    paths: list[str], names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs" / "vox1").mkdir(parents=True)
    assert corpus_names([Path(path) for path in paths]) == names
    assert corpus_names([tmp_path / path for path in paths]) == names  # however they are given


def test_indistinguishable_names_are_refused(three: list[Path], tmp_path: Path) -> None:
    pack(three[1], tmp_path / "vox", progress=False)
    (tmp_path / "vox.csv").write_bytes(three[0].read_bytes())
    with pytest.raises(IdemvoxError, match=r"vox\.csv and .*vox would have the same name; rename one"):
        open_corpus([tmp_path / "vox.csv", tmp_path / "vox"])


@pytest.mark.parametrize("packed", [(True, False), (False, True), (True, True)])
def test_a_corpus_beside_a_joined_one_with_it_is_refused(
    three: list[Path], tmp_path: Path, packed: tuple[bool, bool]
) -> None:
    joined = join_manifests(three[:2], tmp_path / "all.csv", progress=False).manifest
    pack(joined, tmp_path / "packs" / "all", progress=False)
    pack(three[1], tmp_path / "packs" / "vox", progress=False)
    pack(three[2], tmp_path / "packs" / "vox-1", progress=False)
    whole = tmp_path / "packs" / "all" if packed[0] else joined
    part = tmp_path / "packs" / "vox" if packed[1] else three[1]
    for paths in ([whole, part], [part, whole]):
        with pytest.raises(IdemvoxError, match=r"vox/u0 is in two corpora: all contains vox; leave one"):
            open_corpus(paths)
    assert len(open_corpus([whole, tmp_path / "packs" / "vox-1"])) == 11


def test_the_same_corpus_twice_is_refused(three: list[Path], tmp_path: Path) -> None:
    pack(three[0], tmp_path / "p", progress=False)
    pack(three[0], tmp_path / "q", progress=False)
    link = tmp_path / "link.csv"
    link.symlink_to(three[0])
    for other in (three[0], link, tmp_path / "p"):
        with pytest.raises(IdemvoxError, match="are the same corpus; give each once"):
            open_corpus([three[0], three[1], other])
    with pytest.raises(IdemvoxError, match=r"p and .*q are the same corpus"):
        open_corpus([tmp_path / "p", tmp_path / "q"])


def test_the_same_audio_in_two_corpora_is_refused(three: list[Path], tmp_path: Path) -> None:
    home = load_manifest(three[0])
    (tmp_path / "link").symlink_to(three[0].parent)
    again = [replace(home[n], id=f"again{n}", path=f"link/wav/u{n}.wav") for n in (1, 3)]
    save_manifest(Manifest(again, tmp_path), tmp_path / "again.csv")
    with pytest.raises(IdemvoxError) as caught:
        open_corpus([three[0], three[1], tmp_path / "again.csv"])
    real = os.path.realpath(three[0].parent / "wav" / "u1.wav")
    assert str(caught.value) == (
        f"{real} is in two corpora, as again/again1 and as vox2/u1, like 1 other file; "
        "leave it out of one of them"
    )
    with pytest.raises(IdemvoxError, match="is in two corpora"):
        join_manifests([three[0], tmp_path / "again.csv"], tmp_path / "out.csv", progress=False)
    assert not (tmp_path / "out.csv").exists()


def test_different_parts_of_one_file_may_be_in_two_corpora(three: list[Path], tmp_path: Path) -> None:
    def part(name: str, start: float, seconds: float) -> Path:
        u = Utterance(name, str(three[0].parent / "wav" / "u4.wav"), seconds, start=start)
        save_manifest(Manifest([u], tmp_path), tmp_path / f"{name}.csv")
        return tmp_path / f"{name}.csv"

    first, second, over = part("first", 0.0, 0.1), part("second", 0.1, 0.1), part("over", 0.05, 0.02)
    assert len(open_corpus([first, second])) == 2
    with pytest.raises(IdemvoxError, match="as first/first and as over/over"):
        open_corpus([second, over, first])


def test_an_empty_or_missing_corpus_is_refused(three: list[Path], tmp_path: Path) -> None:
    save_manifest(Manifest([], tmp_path), tmp_path / "none.csv")
    with pytest.raises(IdemvoxError, match="the corpus none has no utterances"):
        open_corpus([three[0], tmp_path / "none.csv"])
    with pytest.raises(IdemvoxError, match=r"no manifest .*missing\.csv"):
        open_corpus([three[0], tmp_path / "missing.csv"])


@pytest.mark.parametrize("out", ["all.csv", "deep/er/all.csv", "link/all.csv", "vox2/wav/all.csv"])
def test_joined_paths_are_right_for_any_output_folder(out: str, tmp_path: Path, monkeypatch) -> None:
    first = write_corpus(tmp_path / "vox2", 1, [("a", None)] * 2)
    second = write_corpus(tmp_path / "far" / "vox1", 2, [("a", "r")] * 2)
    save_manifest(load_manifest(second), tmp_path / "lists" / "vox1.csv")  # ../far/vox1/wav/u0.wav
    (tmp_path / "there" / "really").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "really")
    monkeypatch.chdir(tmp_path)
    files = [Path("vox2/manifest.csv"), Path("lists/vox1.csv")]
    found = load_manifest(join_manifests(files, out, progress=False).manifest)
    assert [u.id for u in found] == ["vox2/u0", "vox2/u1", "vox1/u0", "vox1/u1"]
    assert not any(os.path.isabs(u.path) for u in found)
    sources = [*load_manifest(first), *load_manifest(second)]
    roots = [first.parent] * 2 + [second.parent] * 2
    for u, before, root in zip(found, sources, roots, strict=True):
        assert np.array_equal(read(found.path(u)), read(root / before.path))
        assert (u.seconds, u.rate, u.start) == (before.seconds, before.rate, before.start)
    assert [(u.speaker, u.recording) for u in found] == [("vox2/a", None)] * 2 + [("vox1/a", "vox1/r")] * 2


def test_the_command_prints_the_name_of_each_corpus(three: list[Path], tmp_path: Path) -> None:
    words = ["prepare", "join", *map(str, three), "--out", str(tmp_path / "all.csv")]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 0, (result.output, result.exception)
    assert "11 utterances" in result.output and "vox-1/...: 2 utterances of" in result.output
    assert [line.split()[-1] for line in result.output.splitlines() if "speakers" in line] == ["5"]
    assert [p.name for p in tmp_path.iterdir()] == ["all.csv"]  # and no temporary file


@pytest.mark.parametrize(
    ("pick", "message"),
    [
        (lambda three, tmp: [three[0]], "give at least two manifests"),
        (lambda three, tmp: [three[0], three[0].parent], "is a folder: give the manifest"),
        (lambda three, tmp: [three[0], tmp / "out.csv"], "is one of the manifests to join"),
        (lambda three, tmp: [three[0], three[1], three[0]], "are the same corpus"),
        (lambda three, tmp: [three[0], tmp / "nowhere.csv"], "no manifest"),
        (lambda three, tmp: [three[0], tmp / "none.csv"], "has no utterances; leave it out"),
    ],
)
def test_impossible_joins_are_refused(pick, message: str, three: list[Path], tmp_path: Path) -> None:
    save_manifest(Manifest([], tmp_path), tmp_path / "none.csv")
    (tmp_path / "out.csv").write_bytes(three[1].read_bytes())
    with pytest.raises(IdemvoxError, match=message):
        join_manifests(pick(three, tmp_path), tmp_path / "out.csv", progress=False)
    assert (tmp_path / "out.csv").read_bytes() == three[1].read_bytes()


def test_two_real_corpora_read_the_same_joined_or_listed(tmp_path: Path) -> None:
    root = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))
    if not (root / "manifest.csv").exists():
        pytest.skip("no real speech: set IDEMVOX_CORPORA to the folder that holds manifest.csv")
    rows: dict[str, list[dict[str, str]]] = {"librispeech": [], "wuw2": []}  # 16-kHz Opus and 8-kHz calls
    with (root / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] in rows and len(rows[row["source"]]) < 8 and float(row["seconds"]) > 2.5:
                rows[row["source"]].append(row)
    paths = []
    for source, some in rows.items():
        with (tmp_path / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(some[0]))
            writer.writeheader()
            writer.writerows(some)
        out = tmp_path / source / "manifest.csv"
        prepare_table(tmp_path / "table.csv", out, root=root, progress=False)
        paths.append(out)
    joined = join_manifests(paths, tmp_path / "lists" / "all.csv", progress=False).manifest
    pack(paths[1], tmp_path / "packs" / "wuw2", progress=False)
    pack(joined, tmp_path / "packs" / "all", progress=False)
    whole = open_corpus(tmp_path / "packs" / "all")
    for found in (open_corpus(paths), open_corpus([paths[0], tmp_path / "packs" / "wuw2"])):
        assert found.parts == {"librispeech": 8, "wuw2": len(load_manifest(paths[1]))}
        assert list(found.ids) == list(whole.ids) and found.speakers.tolist() == whole.speakers.tolist()
        assert found.recordings.tolist() == whole.recordings.tolist()
        for index in (0, 7, 8, len(found) - 1):
            length = int(found.source.lengths[index])
            mine, its = np.zeros(length, np.int16), np.zeros(length, np.int16)
            assert found.source.read_into(index, 0, mine) == whole.source.read_into(index, 0, its)
            assert np.array_equal(mine, its)
