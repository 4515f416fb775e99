"""Files are complete or absent."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idemvox.errors import IdemvoxError
from idemvox.files import atomic_write, full_disk_named, read_json, write_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def test_text_is_utf8_and_newlines_are_kept(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "new" / "a.txt") as file:
        file.write("ä声\r\n\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ä声\r\n\n".encode()


def test_bytes_are_written(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.bin", "wb") as file:
        file.write(b"\0\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\0\xff"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as file:
        file.write("half of the ne")
        raise error
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_old_file_is_visible_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("new")
        file.flush()
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_data_are_on_disk_before_the_name_and_the_name_before_it_returns(tmp_path, monkeypatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(*names: str) -> None:
        done.append("name")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("x")
    assert done == ["file", "name", "folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_reported_and_the_old_file_kept(tmp_path: Path, number: int) -> None:
    (tmp_path / "a.txt").write_text("old")
    message = r"a\.txt was not written: its disk, mounted at /.*, is full"
    with pytest.raises(IdemvoxError, match=message), atomic_write(tmp_path / "a.txt") as file:
        file.write("half of the ne")
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_other_system_errors_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_named(tmp_path / "a.txt"):
        raise PermissionError(errno.EACCES, "no")


def test_permissions_are_those_of_an_ordinary_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values)
def test_json_is_read_back(tmp_path: Path, value: object) -> None:
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [b"{", b"", b"\xff"])
def test_broken_json_is_reported(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(IdemvoxError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")
