"""The speaker store: who is in it, what is refused, and what several processes and kills leave."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idemvox.errors import StoreError
from idemvox.verifier import sqlite
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.names import checked_name
from idemvox.verifier.sqlite import SqliteStore

MODEL, OTHER = "a" * 64, "b" * 64


def prints(seed, count=1, dim=8):
    rng = np.random.default_rng(seed)
    return [
        Voiceprint(rng.standard_normal(dim).astype(np.float32), f"{seed}-{n}.wav", 2.5, 20.0, n > 0)
        for n in range(count)
    ]


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "speakers.sqlite", MODEL) as opened:
        yield opened


def test_enrolments_are_kept_apart_by_speaker_and_channel(store):
    anna, phone, bert = prints(1, 2), prints(2), prints(3)
    assert store.dim is None and store.names() == [] and store.enrolments() == []
    assert store.enrol("Anna", anna).count == 2
    assert store.enrol(" Anna ", phone, channel="phone").count == 1
    store.enrol("bert", bert)
    assert store.names() == ["Anna", "bert"] and store.dim == 8
    found = store.enrolments()
    assert [(e.speaker, e.channel, e.source) for e in found] == [
        ("Anna", "", "1-0.wav"),
        ("Anna", "", "1-1.wav"),
        ("Anna", "phone", "2-0.wav"),
        ("bert", "", "3-0.wav"),
    ]
    assert [e.narrow for e in found] == [False, True, False, False]
    assert {(e.seconds, e.quality) for e in found} == {(2.5, 20.0)} and found[0].added.endswith("+00:00")
    assert store.enrolments("Anna") == found[:3]
    order = [3, 0, 2, 1]
    matrix = store.embeddings([found[i].id for i in order])
    expected = np.stack([v.embedding for v in [*anna, *phone, *bert]])[order]
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.float32


def test_all_is_there_when_the_file_is_opened_again(tmp_path):
    path = tmp_path / "new folder" / "speakers.sqlite"
    with SqliteStore(path, MODEL) as store:
        store.enrol("Ünal", prints(1, 3))
        expected = store.enrolments(), store.embeddings([1, 2, 3]).tobytes(), store.version()
    with SqliteStore(path) as store:
        assert (store.enrolments(), store.embeddings([1, 2, 3]).tobytes(), store.version()) == expected
        assert store.model == MODEL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["speakers.sqlite"]


def test_a_recording_is_enrolled_once_and_under_one_name(store):
    first, second = prints(1, 2)
    store.enrol("Anna", [first])
    again = store.enrol("Anna", [first, second], channel="phone")
    assert (again.count, again.known) == (1, ("1-0.wav",)) and len(store.enrolments()) == 2
    with pytest.raises(StoreError, match=r"1-1\.wav is enrolled as 'Anna' already.*delete 'Anna' first"):
        store.enrol("Bert", [*prints(2), second])
    assert store.names() == ["Anna"] and len(store.enrolments()) == 2  # as a whole or not at all
    assert store.enrol("Anna", [first]).count == 0


def test_an_enrolment_that_fails_leaves_nothing(store):
    good = prints(1)[0]
    for wrong, message in (
        (np.ones(7), "embeddings of 8 numbers, this one has 7"),
        (np.full(8, np.nan), "finite"),
        (np.ones((2, 4)), r"got \(2, 4\)"),
    ):
        with pytest.raises(StoreError, match=message):
            store.enrol("Anna", [good, Voiceprint(wrong)])
        assert store.names() == [] and store.dim is None and store.version() == 0
    with pytest.raises(StoreError, match="at least one recording"):
        store.enrol("Anna", [])
    with pytest.raises(ZeroDivisionError):
        store.enrol("Anna", (Voiceprint(np.ones(8) / (1 // n)) for n in (1, 0)))
    assert store.names() == []
    store.enrol("Anna", [good])


def test_version_grows_with_every_change_of_any_connection(store):
    with SqliteStore(store.path) as other:
        seen = [store.version()]
        for change in (
            lambda: other.enrol("Anna", prints(1)),
            lambda: store.enrol("Bert", prints(2)),
            lambda: other.delete("Anna"),
        ):
            change()
            assert store.version() == other.version() > seen[-1]
            seen.append(store.version())
        assert store.names() == other.names() == ["Bert"]


def test_reading_sees_one_state(store):
    store.enrol("Anna", prints(1))
    with SqliteStore(store.path) as other:
        with store.reading():
            before = store.version(), store.names()
            other.enrol("Bert", prints(2))
            assert (store.version(), store.names()) == before
        assert store.names() == ["Anna", "Bert"]


def test_another_models_embeddings_are_refused(store):
    store.enrol("Anna", prints(1))
    with pytest.raises(
        StoreError, match=r"another model \(aaaaaaaaaaaa, not bbbbbbbbbbbb\).*enrol them again in a new store"
    ):
        SqliteStore(store.path, OTHER)


def test_a_store_that_holds_nobody_takes_another_model(store):
    store.enrol("Anna", prints(1))
    store.delete("Anna")
    with SqliteStore(store.path, OTHER) as other:
        assert other.model == OTHER and other.dim is None
        for use in (store.version, lambda: store.enrol("Anna", prints(1)), lambda: store.dim) * 2:
            with pytest.raises(StoreError, match=r"another model \(bbbbbbbbbbbb, not aaaaaaaaaaaa\)"):
                use()
        other.enrol("Anna", prints(1, dim=5))
    with pytest.raises(StoreError, match="another model"):
        SqliteStore(store.path, MODEL)


def test_what_is_no_store_is_refused_and_left_alone(tmp_path):
    with pytest.raises(StoreError, match="idemvox enrol"):
        SqliteStore(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())
    text, theirs, newer = tmp_path / "notes.txt", tmp_path / "theirs.sqlite", tmp_path / "newer.sqlite"
    text.write_text("These are not the speakers you are looking for.\n" * 50)
    with sqlite3.connect(theirs) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()
    for path, message in ((text, "cannot be used as a speaker store"), (theirs, "not a speaker store")):
        before = path.read_bytes()
        with pytest.raises(StoreError, match=message):
            SqliteStore(path, MODEL)
        assert path.read_bytes() == before
    SqliteStore(newer, MODEL).close()
    with sqlite3.connect(newer) as connection:
        connection.execute("UPDATE idemvox_store SET format = 99")
    connection.close()
    with pytest.raises(StoreError, match="upgrade idemvox"):
        SqliteStore(newer, MODEL)


def test_names_are_any_text_in_one_spelling(store):
    names = ["Ana María", "李小龍", "🦊", "O'Brien; DROP TABLE", "%s ?", "[bold]x[/bold]", "a\u200db"]
    for seed, name in enumerate(names):
        store.enrol(f"\t{name}\u00a0", prints(seed))
    assert sorted(store.names()) == sorted(names)
    assert checked_name("Zoe\u0308") == checked_name("Zo\u00eb ")
    for wrong, message in (
        ("", "is empty"),
        (" \n", "is empty"),
        ("a\nb", "one line"),
        ("a\x00", "one line"),
        ("\ud800", "one line"),
    ):
        with pytest.raises(StoreError, match=message):
            store.enrol(wrong, prints(99))
    with pytest.raises(StoreError, match="a channel is one line"):
        store.enrol("Anna", prints(99), channel="a\nb")


def test_the_name_of_a_file_may_be_anything(store):
    store.enrol("Anna", [Voiceprint(np.ones(8), "a\x1b[31m\udcff.wav")])
    assert [e.source for e in store.enrolments()] == ["a?[31m?.wav"]


@given(st.text())
def test_a_name_is_refused_or_its_own_spelling(text):
    try:
        name = checked_name(text)
    except StoreError:
        return
    assert checked_name(name) == name and name == name.strip() != "" and name.encode()


def test_who_is_not_there_is_named_with_a_suggestion(store):
    with pytest.raises(StoreError, match="it is empty"):
        store.delete("Anna")
    store.enrol("Anna", prints(1), channel="phone")
    with pytest.raises(StoreError, match="did you mean 'Anna'"):
        store.enrolments("Ana")
    with pytest.raises(StoreError, match="no enrolment in channel 'headset'; have: phone"):
        store.delete("Anna", channel="headset")
    store.add((f"speaker {n}", "", prints(10 + n)[0]) for n in range(30))
    with pytest.raises(StoreError, match=r"did you mean 'Anna'.*all 31"):
        store.delete("anna")
    assert store.delete("Anna") == 1


def in_files(store: SqliteStore, needle: bytes) -> bool:
    """Tell whether bytes are in the store's files."""
    return any(needle in path.read_bytes() for path in store.path.parent.glob(f"{store.path.name}*"))


@pytest.mark.parametrize("dim", [4, 700])
def test_deleted_embeddings_and_names_are_gone_from_the_files(store, dim):
    """Also where SQLite moves rows between pages: speakers come and go in any order."""
    rng, kept, gone = random.Random(dim), {}, {}
    for number in range(150):
        name = f"{rng.random():.15f}"
        kept[name] = prints(number, 1 + number % 3, dim)
        store.enrol(name, kept[name])
        if number % 3 == 2:
            name = rng.choice(list(kept))
            assert store.delete(name) == len(kept[name])
            gone[name] = kept.pop(name)
    for speakers, there in ((kept, True), (gone, False)):
        for name, voiceprints in speakers.items():
            assert in_files(store, name.encode()) == there
            for voiceprint in voiceprints:
                data = voiceprint.embedding.tobytes()
                assert in_files(store, data[:16]) == in_files(store, data[-16:]) == there
    assert sorted(store.names()) == sorted(kept)


def test_deleting_one_channel_leaves_the_others(store):
    office, phone = prints(1, 2), prints(2)
    store.enrol("Anna", office, channel="office")
    store.enrol("Anna", phone, channel="phone")
    assert store.delete("Anna", channel="office") == 2
    assert [e.channel for e in store.enrolments("Anna")] == ["phone"]
    assert not in_files(store, office[0].embedding.tobytes())
    assert store.delete("Anna", channel=" phone") == 1 and store.names() == []
    store.enrol("Anna", office)
    assert store.enrolments("Anna")[0].id == 4  # not one that was given before


def test_a_reader_that_keeps_old_bytes_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "_WAIT", 0.0)
    with SqliteStore(tmp_path / "s", MODEL) as store, SqliteStore(tmp_path / "s") as other:
        (anna,) = prints(1)
        store.enrol("Anna", [anna])
        with other.reading():
            other.names()
            with pytest.raises(StoreError, match=r"deleted, but .*s-wal still holds the bytes"):
                store.delete("Anna")
        assert store.names() == [] and in_files(store, anna.embedding.tobytes())
        store.purge()
        assert not in_files(store, anna.embedding.tobytes())


def write_many(path: Path, writer: int, barrier) -> None:
    """Enrol in a process of its own: speakers of its own, and one that all share; delete every fifth."""
    barrier.wait()
    with SqliteStore(path, MODEL) as store:
        for n in range(20):
            store.enrol(f"{writer}-{n}", prints(1000 * writer + n, 3))
            store.enrol("all", prints(10**6 + 1000 * writer + n))
            if n % 5 == 0:
                try:
                    store.delete(f"{writer}-{n}")
                except StoreError as error:  # it is deleted, but others never left the log a quiet moment
                    assert "still holds the bytes" in str(error)


@pytest.mark.slow
def test_several_processes_write_at_once(tmp_path):
    """They also make the file at once."""
    context = multiprocessing.get_context("spawn")
    barrier, path = context.Barrier(4), tmp_path / "speakers.sqlite"
    writers = [context.Process(target=write_many, args=(path, w, barrier)) for w in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    with SqliteStore(path) as store:
        expected = {f"{w}-{n}" for w in range(4) for n in range(20) if n % 5}
        assert set(store.names()) == expected | {"all"} and len(store.enrolments("all")) == 80
        assert all(len(store.enrolments(name)) == 3 for name in expected)
        assert store.version() == 4 * (20 + 20 + 4)


ENROL = """
import sys
import numpy as np
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.enrolment import Voiceprint

path, first = sys.argv[1], int(sys.argv[2])
with SqliteStore(path, "a" * 64) as store:
    for n in range(first, first + 100_000):
        rng = np.random.default_rng(n)
        store.enrol(str(n), (Voiceprint(rng.standard_normal(500)) for _ in range(3)))
        print(n, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_kill_9_loses_no_enrolment_and_leaves_no_half_one(tmp_path):
    rng, path, said = random.Random(0), tmp_path / "speakers.sqlite", []
    for attempt in range(6):
        first = 1_000_000 * attempt
        with subprocess.Popen(
            [sys.executable, "-c", ENROL, str(path), str(first)], stdout=subprocess.PIPE, text=True
        ) as process:
            for _ in range(rng.randint(1, 60)):
                said.append(process.stdout.readline().strip())
            process.kill()
            said += [
                line.strip() for line in process.stdout.read().splitlines(keepends=True) if line[-1:] == "\n"
            ]
        with SqliteStore(path) as store:
            names = store.names()
            assert set(said) <= set(names) and len(names) - len(said) <= attempt + 1
            assert len(store.enrolments()) == 3 * len(names)
            assert store.version() == len(names)
            assert np.isfinite(store.embeddings([e.id for e in store.enrolments()])).all()
    assert len(said) > 6
