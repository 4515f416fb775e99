"""Manifests: reading back what was written, and reporting every wrong line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.errors import IdemvoxError

HEADER = "id,path,seconds,rate,speaker,recording\n"

text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
names = text.filter(lambda name: not name.startswith("/") and ".." not in name)


def manifest(root: Path) -> Manifest:
    return Manifest(
        [
            Utterance("a", "x/a.wav", 2.5, 8000, "anna", "call-1"),
            Utterance("b", "x/b.wav", 3.25, 16000, "bo", "call-2"),
            Utterance("c", "y/c.wav", 4.0),
        ],
        root,
    )


def wrong(tmp_path: Path, content: str) -> str:
    (tmp_path / "m.csv").write_text(content, encoding="utf-8")
    with pytest.raises(IdemvoxError) as caught:
        load_manifest(tmp_path / "m.csv")
    return str(caught.value)


def test_a_saved_manifest_is_read_back(tmp_path: Path) -> None:
    save_manifest(manifest(tmp_path), tmp_path / "m.csv")
    loaded = load_manifest(tmp_path / "m.csv")
    assert list(loaded) == list(manifest(tmp_path))
    assert loaded.root == tmp_path
    assert (tmp_path / "m.csv").read_text().splitlines()[:2] == [
        "id,path,seconds,rate,speaker,recording",
        "a,x/a.wav,2.5,8000,anna,call-1",
    ]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            Utterance,
            names,
            names,
            st.integers(1, 10**7).map(lambda milliseconds: milliseconds / 1000),
            st.integers(1, 200_000),
            st.none() | text,
            st.none() | text,
            st.none(),
            st.none() | text,
        ),
        max_size=8,
        unique_by=lambda utterance: utterance.id,
    )
)
def test_any_names_are_read_back(tmp_path: Path, utterances: list[Utterance]) -> None:
    """Commas, quotes, spaces, any script."""
    save_manifest(Manifest(utterances, tmp_path), tmp_path / "m.csv")
    assert list(load_manifest(tmp_path / "m.csv")) == utterances


def test_saved_elsewhere_the_paths_still_lead_to_the_audio(tmp_path: Path) -> None:
    (tmp_path / "audio" / "x").mkdir(parents=True)
    (tmp_path / "audio" / "x" / "a.wav").write_text("here")
    utterances = [Utterance("a", "x/a.wav", 1.0), Utterance("b", str(tmp_path / "audio/x/a.wav"), 1.0)]
    for place in ("m.csv", "lists/of/m.csv", "audio/m.csv"):
        save_manifest(Manifest(utterances, tmp_path / "audio"), tmp_path / place)
        loaded = load_manifest(tmp_path / place)
        assert all(loaded.path(u).read_text() == "here" for u in loaded)
        assert not any(os.path.isabs(u.path) for u in loaded)
    assert loaded[0].path == "x/a.wav"


def test_saved_in_a_linked_folder_the_paths_still_lead_to_the_audio(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep" / "lists").mkdir(parents=True)
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").write_text("here")
    (tmp_path / "lists").symlink_to(tmp_path / "disk" / "deep" / "lists")
    save_manifest(Manifest([Utterance("a", "a.wav", 1.0)], tmp_path / "audio"), tmp_path / "lists" / "m.csv")
    loaded = load_manifest(tmp_path / "lists" / "m.csv")
    assert loaded.path(loaded[0]).read_text() == "here"


def test_absolute_paths_are_kept(tmp_path: Path) -> None:
    assert manifest(tmp_path).path(Utterance("z", "/far/z.wav", 1.0)) == Path("/far/z.wav")


def test_a_manifest_is_a_sequence(tmp_path: Path) -> None:
    m = manifest(tmp_path)
    assert len(m) == 3 and m[-1].id == "c" and [u.id for u in m] == ["a", "b", "c"]
    assert isinstance(m[1:], Manifest) and [u.id for u in m[1:]] == ["b", "c"] and m[1:].root == m.root
    assert m.by_id["b"] is m[1]
    assert m.speakers == ["anna", "bo"]
    assert [u.id for u in m.select(lambda u: u.seconds > 3)] == ["b", "c"]


def test_without_labels_keeps_everything_else(tmp_path: Path) -> None:
    bare = manifest(tmp_path).without_labels()
    assert {(u.speaker, u.recording) for u in bare} == {(None, None)}
    assert [(u.id, u.path, u.seconds, u.rate) for u in bare] == [
        (u.id, u.path, u.seconds, u.rate) for u in manifest(tmp_path)
    ]


def test_columns_in_any_order_extra_ones_and_a_byte_order_mark(tmp_path: Path) -> None:
    content = "rate,note,seconds,path,id\n16000,hello,1.5,a.wav,1\n\n8000,,2,b.wav,2\n"
    (tmp_path / "m.csv").write_text(content, encoding="utf-8-sig")
    assert list(load_manifest(tmp_path / "m.csv")) == [
        Utterance("1", "a.wav", 1.5, 16000),
        Utterance("2", "b.wav", 2.0, 8000),
    ]


@pytest.mark.parametrize("column", ["id", "path", "seconds", "rate"])
def test_a_missing_column_is_reported(tmp_path: Path, column: str) -> None:
    columns = [name for name in ("id", "path", "seconds", "rate") if name != column]
    message = wrong(tmp_path, ",".join(columns) + "\n1,2,3\n")
    assert "m.csv, line 1" in message and f"no column '{column}'" in message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (",b.wav,1,16000,,", "empty id"),
        ("b,,1,16000,,", "empty path"),
        ("a,b.wav,1,16000,,", "'a' is also on line 2"),
        ("b,b.wav,long,16000,,", "seconds is 'long'"),
        ("b,b.wav,0,16000,,", "seconds is '0'"),
        ("b,b.wav,-1,16000,,", "seconds is '-1'"),
        ("b,b.wav,nan,16000,,", "seconds is 'nan'"),
        ("b,b.wav,inf,16000,,", "seconds is 'inf'"),
        ("b,b.wav,1,16 kHz,,", "rate is '16 kHz'"),
        ("b,b.wav,1,0,,", "rate is '0'"),
        ("b,b.wav,1,-8000,,", "rate is '-8000'"),
        ("b,b.wav,1", "3 fields where the header has 6"),
        ("b,b,c.wav,1,16000,,", "7 fields where the header has 6"),
    ],
)
def test_a_wrong_row_is_reported_with_its_line(tmp_path: Path, row: str, says: str) -> None:
    message = wrong(tmp_path, HEADER + "a,a.wav,1,16000,,\n" + row + "\n")
    assert "m.csv, line 3: " in message and says in message


def test_a_missing_or_binary_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(IdemvoxError, match=r"no manifest .*none\.csv.*idemvox prepare"):
        load_manifest(tmp_path / "none.csv")
    (tmp_path / "m.csv").write_bytes(b"id,path\xff\xfe\n")
    with pytest.raises(IdemvoxError, match="UTF-8"):
        load_manifest(tmp_path / "m.csv")
    with pytest.raises(IdemvoxError, match="cannot read"):
        load_manifest(tmp_path)


def test_starts_are_kept_and_written_only_if_there_are_any(tmp_path):
    rows = [Utterance("a", "y.wav", 2.0), Utterance("b", "x.wav", 2.0, start=2.5)]
    save_manifest(Manifest(rows, tmp_path), tmp_path / "m.csv")
    assert [u.start for u in load_manifest(tmp_path / "m.csv")] == [None, 2.5]
    assert [u.start for u in load_manifest(tmp_path / "m.csv").without_labels()] == [None, 2.5]
    save_manifest(Manifest(rows[:1], tmp_path), tmp_path / "n.csv")
    assert "start" not in (tmp_path / "n.csv").read_text()


@pytest.mark.parametrize("text", ["-1", "soon", "nan"])
def test_a_bad_start_is_refused_with_its_line(tmp_path, text):
    (tmp_path / "m.csv").write_text(f"id,path,seconds,rate,start\na,x.wav,2,16000,{text}\n")
    with pytest.raises(IdemvoxError, match=r"line 2: start is"):
        load_manifest(tmp_path / "m.csv")
