"""The speaker store in PostgreSQL, against a real server with pgvector, started here.

The server's programs are looked for in IDEMVOX_POSTGRES_BIN, on the path and where Debian has them. Without
them, pgvector or psycopg, the tests are skipped.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from idemvox.errors import StoreError
from idemvox.verification.scoring import Scorer
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.identification import Identifier
from idemvox.verifier.opening import open_store
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.transfer import export_speakers, import_speakers

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'idemvox[postgres]'")
pytestmark = pytest.mark.slow

MODEL, OTHER = "a" * 64, "b" * 64


def programs() -> Path | None:
    """Return the folder of a server's programs that has pgvector."""
    named = [Path(os.environ["IDEMVOX_POSTGRES_BIN"])] if "IDEMVOX_POSTGRES_BIN" in os.environ else []
    found = shutil.which("pg_config")
    on_path = [Path(found).resolve().parent] if found else []
    for folder in [*named, *on_path, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]:
        if (folder / "initdb").exists() and (folder / "pg_config").exists():
            asked = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True)
            if Path(asked.stdout.strip(), "extension", "vector.control").exists():
                return folder
    return None


BIN = programs()
if BIN is None:
    pytest.skip(
        "no PostgreSQL server with pgvector here: set IDEMVOX_POSTGRES_BIN to its bin folder",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Path]]:
    """A server on a socket in a temporary folder: its URL without a database, and its data folder."""
    assert BIN is not None
    user = "postgres" if os.geteuid() == 0 else None  # a server refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path has few letters
    if user:
        shutil.chown(home, user)
    clean = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(home)}
    data = home / "data"
    subprocess.run(
        [BIN / "initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        env=clean,
        user=user,
        cwd=home,
    )
    command = [BIN / "postgres", "-D", data, "-k", home, "-h", "", "-F"]
    process = subprocess.Popen(
        command, env=clean, user=user, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"postgresql://tester@/%s?host={home}"
    try:
        while True:
            assert process.poll() is None, "the server has ended"
            try:
                psycopg.connect(url % "postgres").close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield url, data
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


@pytest.fixture
def url(server, request) -> str:
    """The URL of a new database."""
    name = f"d{abs(hash(request.node.name))}"
    with psycopg.connect(server[0] % "postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server[0] % name


@pytest.fixture
def store(url):
    with open_store(url, MODEL, create=True) as opened:
        yield opened


def prints(seed, count=1, dim=8):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dim)) * 10.0 ** rng.integers(-30, 30, (count, dim))
    return [
        Voiceprint(v.astype(np.float32), f"{seed}-{n}.wav", 2.5, 20.0, n > 0) for n, v in enumerate(vectors)
    ]


def test_it_is_as_the_store_in_sqlite(store, tmp_path):
    """The same calls give the same answers and the same errors."""
    with SqliteStore(tmp_path / "s.sqlite", MODEL) as other:
        for both in (store, other):
            both.enrol("Zoe\u0308", prints(1, 3))
            both.enrol("O'Brien %s ?", prints(2, 2), channel="phone")
            both.enrol("李小龍", [*prints(3), *prints(4)], channel="phone")
            again = both.enrol("Zoë", [*prints(1, 3), *prints(5)], channel="phone")
            assert (again.count, len(again.known)) == (1, 3)
            for wrong, message in (
                (lambda s=both: s.enrol("Bert", [*prints(9), *prints(2, 2)]), "is enrolled as \"O'Brien"),
                (lambda s=both: s.enrol("Bert", [Voiceprint(np.ones(7))]), "this one has 7"),
                (lambda s=both: s.enrol("a\x00", prints(9)), "one line"),
                (lambda s=both: s.delete("Bert"), "unknown speaker 'Bert'"),
                (lambda s=both: s.delete("Zoë", channel="car"), "have: '', phone"),
            ):
                with pytest.raises(StoreError, match=message):
                    wrong()
            assert both.delete("李小龍", channel="phone") == 2
            assert both.delete("Zoë", channel="phone") == 1
        assert store.names() == other.names() and store.dim == other.dim == 8
        one, two = store.enrolments(), other.enrolments()
        assert [(e.speaker, e.channel, e.source, e.seconds, e.quality, e.narrow) for e in one] == [
            (e.speaker, e.channel, e.source, e.seconds, e.quality, e.narrow) for e in two
        ]
        matrices = [s.embeddings([e.id for e in s.enrolments()]) for s in (store, other)]
        np.testing.assert_array_equal(*matrices)  # bit for bit
        assert matrices[0].dtype == np.float32
        assert store.deletions() == other.deletions() == 2 and store.version() == other.version()
        assert store.enrolments(after=one[2].id) == one[3:] and sorted(store.ids()) == [e.id for e in one]


def test_all_is_there_when_it_is_opened_again(store, url):
    store.enrol("Anna", prints(1, 3))
    with open_store(url, MODEL) as other:
        assert other.enrolments() == store.enrolments() and other.version() == store.version() == 1
    with pytest.raises(StoreError, match="another model"):
        open_store(url, OTHER, create=True)
    store.delete("Anna")
    with open_store(url, OTHER, create=True) as other:
        assert other.model == OTHER and other.dim is None
    with pytest.raises(StoreError, match="another model"):
        store.enrol("Anna", prints(1))


def test_no_store_no_server_no_password_in_messages(url):
    with pytest.raises(StoreError, match=r"there is no speaker store in PostgreSQL database 'd[0-9]*'"):
        open_store(url)
    with pytest.raises(StoreError, match=r"database 'x' on localhost") as caught:
        open_store("postgresql://me:secret@localhost:1/x", MODEL, create=True)
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreError, match="not the URL"):
        open_store("postgresql://[", MODEL, create=True)


def test_reading_sees_one_state(store, url):
    store.enrol("Anna", prints(1))
    with open_store(url) as other:
        with store.reading():
            before = store.version(), store.names()
            other.enrol("Bert", prints(2))
            assert (store.version(), store.names()) == before
        assert store.names() == ["Anna", "Bert"]


def test_identification_follows_the_store(store, url):
    for n in range(20):
        store.enrol(f"p{n}", [Voiceprint(v) for v in np.random.default_rng(n).standard_normal((2, 8))])
    identifier, probe = Identifier(store, Scorer()), np.random.default_rng(99).standard_normal(8)

    def agrees():
        found = identifier.identify(probe, 99).candidates
        fresh = Identifier(store, Scorer()).identify(probe, 99).candidates
        assert [c.speaker for c in found] == [c.speaker for c in fresh]
        return len(found)

    assert agrees() == 20
    with open_store(url) as other:
        other.delete("p3")
        other.enrol("p4", [Voiceprint(np.ones(8))])
    assert agrees() == 19


def test_deleted_embeddings_are_gone_from_the_tables_files(store, server):
    """Short ones in the table, long ones in its TOAST."""
    for dim, seed in ((8, 901), (2000, 902)):  # seeds of no other test
        store.enrol("Anna", prints(seed, 2, dim))
        needle = prints(seed, 2, dim)[0].embedding[-4:].tobytes()
        for there in (True, False):
            with psycopg.connect(store._url, autocommit=True) as connection:
                connection.execute("CHECKPOINT")
            files = [path.read_bytes() for path in (server[1] / "base").rglob("*") if path.is_file()]
            assert any(needle in data for data in files) == there
            if there:
                store.delete("Anna")
        store._run("UPDATE idemvox_store SET dim = NULL")


def test_from_sqlite_to_postgres_and_back(store, tmp_path):
    with SqliteStore(tmp_path / "s.sqlite", MODEL) as first:
        first.enrol("Anna", prints(1, 3), channel="phone")
        export_speakers(first, tmp_path / "1.jsonl")
    assert import_speakers(store, tmp_path / "1.jsonl").count == 3
    export_speakers(store, tmp_path / "2.jsonl")
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_lost_connection_is_made_again(store, url):
    store.enrol("Anna", prints(1))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StoreError, match=r"terminat|closed"):
        store.names()
    assert store.names() == ["Anna"]


def write_many(url: str, writer: int, barrier) -> None:
    """Enrol in a process of its own; the processes also make the tables at once."""
    barrier.wait()
    with open_store(url, MODEL, create=True) as store:
        for n in range(10):
            store.enrol(f"{writer}-{n}", prints(1000 * writer + n, 2))
            store.enrol("all", prints(10**6 + 1000 * writer + n))
        store.delete(f"{writer}-0")


def test_several_processes_write_at_once(url):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    writers = [context.Process(target=write_many, args=(url, w, barrier)) for w in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 3
    with open_store(url) as store:
        assert set(store.names()) == {f"{w}-{n}" for w in range(3) for n in range(1, 10)} | {"all"}
        assert len(store.enrolments("all")) == 30 and store.version() == 3 * 21
