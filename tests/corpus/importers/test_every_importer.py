"""Every importer: resuming, repeating, broken files and missing corpora."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from idemvox.audio.read import read
from idemvox.corpus.checks import scan
from idemvox.corpus.checks.problems import Summary
from idemvox.corpus.manifest import load_manifest
from idemvox.errors import IdemvoxError


def written(folder: Path) -> dict[str, bytes]:
    """Return all files that an importer wrote, by name."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def summaries(result: Summary | list[Summary]) -> list[Summary]:
    return [result] if isinstance(result, Summary) else result


def break_off(monkeypatch: pytest.MonkeyPatch, journal: Path, after: int) -> list[Path]:
    """Raise KeyboardInterrupt after so many files, once one is in the journal; return the decoded files."""
    decoded: list[Path] = []
    plain, lock = scan.examine, threading.Lock()

    def examine(path: Path, stop: threading.Event | None = None) -> scan.Facts:
        with lock:
            decoded.append(path)
            if len(decoded) > after:
                while not journal.read_text().strip():
                    time.sleep(0.01)
                raise KeyboardInterrupt
        return plain(path, stop)

    monkeypatch.setattr(scan, "examine", examine)
    return decoded


def test_all_rows_are_listed_and_can_be_read(corpus, tmp_path):
    done = summaries(corpus.prepare(tmp_path / "in", tmp_path / "out" / "m.csv"))
    rows = 0
    for summary in done:
        manifest = load_manifest(summary.manifest)
        rows += len(manifest)
        assert summary.taken == len(manifest) and not summary.left_out
        for u in manifest:
            wave = read(manifest.path(u), round((u.start or 0) * 16000), round(u.seconds * 16000))
            assert len(wave) == pytest.approx(u.seconds * 16000, abs=20)
    assert rows == corpus.rows


def test_a_repeated_or_resumed_run_gives_the_same_files(corpus, tmp_path, monkeypatch):
    corpus.prepare(tmp_path / "in", tmp_path / "straight" / "m.csv")
    straight = written(tmp_path / "straight")
    corpus.prepare(tmp_path / "in", tmp_path / "straight" / "m.csv")
    assert written(tmp_path / "straight") == straight
    assert not any(name.endswith((".partial", ".part")) for name in straight)

    with monkeypatch.context() as patch:
        first = break_off(patch, tmp_path / "resumed" / "m.csv.partial", after=1)
        with pytest.raises(KeyboardInterrupt, match="run the same command again"):
            corpus.prepare(tmp_path / "in", tmp_path / "resumed" / "m.csv")
    assert (tmp_path / "resumed" / "m.csv.partial").exists()
    then = break_off(monkeypatch, tmp_path, after=999)
    corpus.prepare(tmp_path / "in", tmp_path / "resumed" / "m.csv")
    assert first[0] not in then and len(then) == len(set(then))
    assert written(tmp_path / "resumed") == straight


def test_a_broken_file_among_good_ones_is_left_out_and_listed(corpus, tmp_path):
    (tmp_path / "in" / corpus.one).write_bytes(b"junk")
    done = summaries(corpus.prepare(tmp_path / "in", tmp_path / "m.csv"))
    (problem,) = [p for summary in done for p in summary.left_out]
    assert problem.reason == "cannot be read" and problem.path.endswith(corpus.one)
    assert corpus.one in next(s.problems for s in done if s.problems).read_text()
    paths = {u.path for summary in done for u in load_manifest(summary.manifest)}
    assert paths and not any(path.endswith(corpus.one) for path in paths)


def test_another_folder_is_refused_with_the_expected_layout(corpus, tmp_path):
    (tmp_path / "other" / "deep").mkdir(parents=True)
    (tmp_path / "other" / "deep" / "a.wav").write_bytes(b"")
    with pytest.raises(IdemvoxError, match="looked for") as caught:
        corpus.prepare(tmp_path / "other", tmp_path / "m.csv")
    assert corpus.looked_for in str(caught.value)
    with pytest.raises(IdemvoxError, match="no folder"):
        corpus.prepare(tmp_path / "none", tmp_path / "m.csv")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == []
