"""Packs: the samples of the files, even after interrupted packing; every kind of damage is detected."""

from __future__ import annotations

import csv
import errno
import gc
import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from idemvox.audio.read import SAMPLE_RATE, read_pcm
from idemvox.cli import app
from idemvox.corpus.crops import FileSource
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.packs import shards
from idemvox.corpus.packs.check import check
from idemvox.corpus.packs.pack import PackSummary, pack
from idemvox.corpus.packs.packed import ROW, Lines, PackedSource, escaped
from idemvox.errors import IdemvoxError

TINY = 50_000 * 2 / 2**30  # GiB: a shard of 50,000 samples


def noise(seconds: float, rate: int = SAMPLE_RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.2 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a manifest of files of many kinds, some rows parts of one file, one file that is no audio."""
    root = tmp_path_factory.mktemp("files")
    soundfile.write(root / "a.wav", noise(1.5), 16000)
    soundfile.write(root / "b.flac", noise(1.25, seed=1), 16000)
    soundfile.write(root / "c.opus", noise(2.0, seed=2), 16000, format="OGG", subtype="OPUS")
    soundfile.write(root / "d.wav", noise(1.0, 8000, 2, seed=3), 8000)
    soundfile.write(root / "long.flac", noise(6.0, seed=4), 16000)
    (root / "e.wav").write_bytes(b"no audio at all")
    rows = [
        Utterance("a", "a.wav", 1.5, speaker="zoe", recording="r1"),
        Utterance("b", "b.flac", 1.25, speaker="bo", recording="r1"),
        Utterance("e\nü\\", "e.wav", 2.0, speaker="only here"),
        Utterance("c", "c.opus", 2.0),
        Utterance("d", "d.wav", 1.0, 8000, speaker="zoe", recording="r0"),
        Utterance("part 1", "long.flac", 1.9, speaker="bo", recording="r2", start=0.5),
        Utterance("part\n2", "long.flac", 2.5, speaker="bo", recording="r2", start=3.25),
        Utterance("beyond", "long.flac", 1.0, start=7.0),
    ]
    save_manifest(Manifest(rows, root), root / "m.csv")
    return root / "m.csv"


def packed(manifest: Path, out: Path, **options: object) -> PackSummary:
    return pack(manifest, out, workers=2, progress=False, **options)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole(listed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack it without interruption, into several shards."""
    out = tmp_path_factory.mktemp("pack") / "whole"
    packed(listed, out, shard_gib=TINY)
    return out


def copied(whole: Path, to: Path) -> Path:
    to.mkdir()
    for name, data in content(whole).items():
        (to / name).write_bytes(data)
    return to


def crop(source: PackedSource, index: int, start: int, samples: int) -> np.ndarray:
    out = np.full(samples, 99, np.int16)
    return out[: source.read_into(index, start, out)]


def test_samples_equal_those_of_the_files(listed: Path, whole: Path) -> None:
    manifest = load_manifest(listed)
    source = PackedSource(whole)
    names = list(Lines(whole / "ids.txt", len(source)))
    assert names == ["a", "b", "c", "d", "part 1", "part\n2"]
    for index, name in enumerate(names):
        u = manifest.by_id[name]
        start, samples = round((u.start or 0) * SAMPLE_RATE), int(u.seconds * SAMPLE_RATE)
        expected = read_pcm(manifest.path(u), start, samples)
        assert source.lengths[index] == samples == len(expected)
        assert np.array_equal(crop(source, index, 0, samples), expected)
        assert np.array_equal(crop(source, index, 4000, 2000), expected[4000:6000])


def test_reading_stops_at_the_end_of_the_utterance(listed: Path, whole: Path) -> None:
    source, files = PackedSource(whole), FileSource(load_manifest(listed))
    out = np.full(1000, 99, np.int16)
    assert source.read_into(0, 24_000 - 300, out) == 300 and (out[300:] == 99).all()
    assert source.read_into(0, 24_000, out) == source.read_into(0, 10**6, out) == 0
    other = np.full(1000, 99, np.int16)
    assert files.read_into(0, 24_000 - 300, other) == 300 and np.array_equal(out, other)


def test_shards_end_before_an_utterance_that_does_not_fit(whole: Path) -> None:
    source = PackedSource(whole)
    assert source.index["shard"].tolist() == [
        0,
        0,
        1,
        1,
        2,
        3,
    ]  # 24,000 20,000 | 32,000 16,000 | 30,400 | 40,000
    assert source.index["offset"].tolist() == [0, 24_000, 0, 32_000, 0, 0]
    assert [(whole / name).stat().st_size // 2 for name in source.header.shards] == [
        44_000,
        48_000,
        30_400,
        40_000,
    ]


def test_an_utterance_longer_than_a_shard_has_its_own_shard(listed: Path, tmp_path: Path) -> None:
    packed(listed, tmp_path / "p", shard_gib=1e-9)
    source = PackedSource(tmp_path / "p")
    assert source.index["shard"].tolist() == [0, 1, 2, 3, 4, 5] and not source.index["offset"].any()
    assert not check(tmp_path / "p", progress=False).damaged


def test_unreadable_files_are_left_out_and_listed(listed: Path, tmp_path: Path) -> None:
    summary = packed(listed, tmp_path / "p")
    assert (summary.utterances, summary.left_out, summary.shards, summary.new) == (6, 2, 1, True)
    assert summary.hours == pytest.approx((1.5 + 1.25 + 2 + 1 + 1.9 + 2.5) / 3600)
    with (tmp_path / "p" / "problems.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["e.wav", "long.flac"]
    assert (
        rows[0]["detail"].startswith("e\nü\\: not audio")
        and rows[1]["detail"] == "beyond: no audio at its start"
    )
    assert "only here" not in (tmp_path / "p" / "speakers.txt").read_text()


def test_without_readable_files_packing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"")
    save_manifest(Manifest([Utterance("a", "a.wav", 1.0)], tmp_path), tmp_path / "m.csv")
    with pytest.raises(
        IdemvoxError, match=r"none of 1 utterances can be read, e\.g\. a\.wav: .*problems\.csv"
    ):
        packed(tmp_path / "m.csv", tmp_path / "p")
    soundfile.write(tmp_path / "a.wav", noise(1), 16000)
    assert packed(tmp_path / "m.csv", tmp_path / "p").left_out == 0
    assert not (tmp_path / "p" / "problems.csv").exists()


def test_time_place_and_number_of_threads_change_nothing(listed: Path, whole: Path, tmp_path: Path) -> None:
    pack(listed, tmp_path / "elsewhere" / "p", workers=1, shard_gib=TINY, progress=False)
    assert content(tmp_path / "elsewhere" / "p") == content(whole)
    assert not {"journal", "problems"} & set(content(whole))


def test_a_finished_pack_is_not_changed(listed: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.iterdir()}
    assert not packed(listed, whole, shard_gib=TINY).new
    assert {path: path.stat().st_mtime_ns for path in whole.iterdir()} == before
    with pytest.raises(IdemvoxError, match="already packed, in shards of"):
        packed(listed, whole)


# -- interrupted -------------------------------------------------------------------------------------------

CRASHES = """
import os, sys
from pathlib import Path
from idemvox.corpus.packs import shards
from idemvox.corpus.packs.pack import pack

manifest, folder, size = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
shards.COMMIT_BYTES = 60_000
names = ("write", "fsync", "ftruncate", "truncate", "replace", "unlink")
plain = {name: getattr(os, name) for name in names}
plain["fsync"] = lambda file: None  # a process that dies loses nothing that it wrote, and disks are slow
PACK = dict(workers=1, progress=False, shard_gib=size)

def child(out, step, half):
    # pack, and die at a step: before it, or in the middle of a write
    if os.fork():
        return os.waitstatus_to_exitcode(os.wait()[1])
    left = step

    def stepping(name):
        def call(*args, **more):
            nonlocal left
            left -= 1
            if left == 0:
                if name == "write" and half:
                    plain[name](args[0], args[1][: len(args[1]) // 2])
                os._exit(9)
            return plain[name](*args, **more)
        return call
    for name in names:
        setattr(os, name, stepping(name))
    pack(manifest, out, **PACK)
    os._exit(0)

def content(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}

os.fsync = plain["fsync"]
pack(manifest, folder / "straight", **PACK)
expected, step, died = content(folder / "straight"), 1, 0
while True:
    out = folder / str(step)
    code = child(out, step, step % 2 == 0)
    died += code == 9
    if step % 3 == 0:
        child(out, 1 + step % 7, False)  # and again, soon after going on
    pack(manifest, out, **PACK)
    if content(out) != expected:
        sys.exit(f"crash at step {step}: {sorted(content(out))} differ")
    if code == 0:
        break
    step += 1
print(died)
"""


def subprocess_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_crash_at_any_step_changes_nothing(listed: Path, tmp_path: Path) -> None:
    """The run is ended after each of its writes, fsyncs, renames and deletions."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(listed), str(tmp_path), str(TINY)],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from idemvox.corpus import crops
from idemvox.corpus.packs import shards
from idemvox.corpus.packs.pack import pack

manifest, out, size = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
shards.COMMIT_BYTES = 50_000
plain, rng = crops.read_pcm, random.Random(5)

def slowly(*args):
    time.sleep(0.01)
    return plain(*args)

crops.read_pcm = slowly
for _ in range(6):
    process = os.fork()
    if not process:
        pack(manifest, out, workers=2, progress=False, shard_gib=size)
        os._exit(0)
    time.sleep(rng.uniform(0.02, 0.12))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    journal = out / "journal"
    print(journal.read_bytes().count(b"\\n") if journal.exists() else -1)
"""


def test_kill_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    rows = []
    for index in range(200):
        soundfile.write(tmp_path / f"{index}.wav", noise(0.5, seed=index), 16000)
        rows.append(Utterance(str(index), f"{index}.wav", 0.5))
    save_manifest(Manifest(rows, tmp_path), tmp_path / "m.csv")
    packed(tmp_path / "m.csv", tmp_path / "straight", shard_gib=5 * TINY)
    out = tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path / "m.csv"), str(out), str(5 * TINY)],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert 1 < int(done.stdout.split()[-1]) < 201  # some but not all was done
    packed(tmp_path / "m.csv", out, shard_gib=5 * TINY)
    assert content(out) == content(tmp_path / "straight")


def test_journalled_utterances_are_not_decoded_again(
    listed: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "COMMIT_BYTES", 1)
    plain, decoded, room = FileSource.read_into, [], 4

    def read_into(self: FileSource, index: int, start: int, out: np.ndarray) -> int:
        decoded.append(index)
        if len(decoded) > room:
            raise KeyboardInterrupt
        return plain(self, index, start, out)

    monkeypatch.setattr(FileSource, "read_into", read_into)
    with pytest.raises(KeyboardInterrupt):
        pack(listed, tmp_path / "p", workers=1, shard_gib=TINY, progress=False)
    room = 99
    decoded.clear()
    pack(listed, tmp_path / "p", workers=1, shard_gib=TINY, progress=False)
    assert decoded == [4, 5, 6, 7]  # the unreadable one is remembered too
    assert content(tmp_path / "p") == content(whole)


def test_a_full_disk_is_reported_and_the_work_is_kept(
    listed: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "COMMIT_BYTES", 1)
    plain, taken = os.write, 0

    def write(file: int, data: bytes) -> int:
        nonlocal taken
        if taken + len(data) > 150_000:  # before c
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken += len(data)
        return plain(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(IdemvoxError, match="No space left on device; what was packed is kept"):
            packed(listed, tmp_path / "p", shard_gib=TINY)
    assert len((tmp_path / "p" / "journal").read_text().splitlines()) == 1 + 3
    packed(listed, tmp_path / "p", shard_gib=TINY)
    assert content(tmp_path / "p") == content(whole)


def half(listed: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a pack when everything but the index is written."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("idemvox.corpus.packs.pack.number_labels", stop)
        packed(listed, out, shard_gib=TINY)


@pytest.mark.parametrize("torn", [b'{"vers', b"", b"all"])
def test_an_incomplete_line_of_the_journal_is_removed(
    listed: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    out = tmp_path / "p"
    if torn == b"all":
        half(listed, out, monkeypatch)
        complete = (out / "journal").read_bytes()
        with (out / "journal").open("ab") as journal:
            journal.write(b"[24000, 12")
    else:
        out.mkdir()
        (out / "journal").write_bytes(torn)
    half(listed, out, monkeypatch)
    if torn == b"all":
        assert (out / "journal").read_bytes() == complete
    packed(listed, out, shard_gib=TINY)
    assert content(out) == content(whole)


def test_another_half_finished_pack_is_refused(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half(listed, tmp_path / "p", monkeypatch)
    before = content(tmp_path / "p")
    other = load_manifest(listed)[:2]
    save_manifest(other, tmp_path / "other.csv")
    with pytest.raises(IdemvoxError, match=r"unfinished pack of another manifest.*delete the folder"):
        packed(tmp_path / "other.csv", tmp_path / "p", shard_gib=TINY)
    with pytest.raises(IdemvoxError, match="with another --shard-gib"):
        packed(listed, tmp_path / "p")
    assert content(tmp_path / "p") == before
    with pytest.raises(IdemvoxError, match=r"not a finished pack: it has no pack\.json; run `idemvox pack`"):
        PackedSource(tmp_path / "p")
    (tmp_path / "p" / "shard-00000.pcm").write_bytes(b"\0\0")
    with pytest.raises(IdemvoxError, match="does not have the length in the journal; delete"):
        packed(listed, tmp_path / "p", shard_gib=TINY)


def test_a_finished_pack_of_another_manifest_is_refused(listed: Path, whole: Path, tmp_path: Path) -> None:
    save_manifest(load_manifest(listed)[:2], tmp_path / "other.csv")
    with pytest.raises(IdemvoxError, match="holds the pack of another manifest"):
        packed(tmp_path / "other.csv", whole, shard_gib=TINY)


def test_a_folder_with_other_things_is_refused(listed: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    packed(listed, out)  # empty is fine
    for name in ("thesis.txt", "shard-00000.pcm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("dear to me")
        with pytest.raises(IdemvoxError, match=rf"holds other files \({name}\)"):
            packed(listed, tmp_path / name)
        assert content(tmp_path / name) == {name: b"dear to me"}
    with pytest.raises(IdemvoxError, match="is a file"):
        packed(listed, listed)


def test_only_one_process_packs(listed: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with (
        shards.locked_journal(tmp_path / "p"),
        pytest.raises(IdemvoxError, match="another process is packing"),
    ):
        packed(listed, tmp_path / "p")
    assert packed(listed, tmp_path / "p").utterances == 6


def test_an_empty_manifest_is_refused(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(IdemvoxError, match="no manifest"):
        packed(tmp_path / "none.csv", tmp_path / "p")
    (tmp_path / "m.csv").write_text("id,path,seconds,rate\n")
    with pytest.raises(IdemvoxError, match="no utterances"):
        packed(tmp_path / "m.csv", tmp_path / "p")
    with pytest.raises(IdemvoxError, match="above 0"):
        packed(listed, tmp_path / "p", shard_gib=0)
    assert not (tmp_path / "p").exists()


# -- damage ------------------------------------------------------------------------------------------------


def flip(file: Path, position: int) -> None:
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(bytes(data))


def test_check_names_what_is_damaged(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "p")
    assert check(out, workers=2, progress=False).damaged == () == check(out, progress=False).files
    flip(out / "shard-00000.pcm", 2 * 24_000)  # the first byte of b
    flip(out / "shard-00003.pcm", 2 * 40_000 - 1)  # the last of part 2
    found = check(out, workers=2, progress=False)
    assert found.damaged == ("b", "part\n2") and found.files == () and found.utterances == 6
    (out / "shard-00002.pcm").unlink()
    assert check(out, progress=False).damaged == ("b", "part 1", "part\n2")
    flip(out / "speakers.txt", 0)
    assert check(out, progress=False).files == ("speakers.txt",)
    flip(out / "ids.txt", 0)
    assert check(out, progress=False).damaged == ("number 1", "number 4", "number 5")


def test_a_truncated_shard_is_reported(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "p")
    source = PackedSource(out)
    os.truncate(out / "shard-00001.pcm", 2 * 40_000)
    assert check(out, progress=False).damaged == ("d",)
    with pytest.raises(IdemvoxError, match=r"shard-00001\.pcm has 80,000 bytes instead of 96,000"):
        PackedSource(out)
    assert len(crop(source, 3, 0, 8000)) == 8000  # the rest can be read by a source that was already open
    with pytest.raises(IdemvoxError, match=r"shard-00001\.pcm ends inside utterance 3"):
        crop(source, 3, 0, 16_000)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"version": 99, "idemvox": "7.0"},
            "pack format 99, written by idemvox 7.0; this idemvox reads format 1",
        ),
        ({"format": "x"}, "is not from a pack"),
        ({"rate": 8000}, "packed at 8000 Hz"),
        ({"colour": "red"}, "damaged"),
        ({"utterances": 7}, "not the index of 7 utterances"),
    ],
)
def test_invalid_headers_are_refused(
    whole: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    out = copied(whole, tmp_path / "p")
    header = json.loads((out / "pack.json").read_text())
    (out / "pack.json").write_text(json.dumps(header | change))
    with pytest.raises(IdemvoxError, match=says):
        PackedSource(out)


def test_an_invalid_index_is_refused(whole: Path, tmp_path: Path) -> None:
    out = copied(whole, tmp_path / "p")
    (out / "index.npy").write_bytes(b"nothing")
    with pytest.raises(IdemvoxError, match=r"cannot read .*index\.npy"):
        PackedSource(out)


# -- reading -----------------------------------------------------------------------------------------------


def test_a_source_can_be_sent_to_another_process_and_closes_its_files(whole: Path) -> None:
    def open_files() -> list[str]:
        gc.collect()
        links = (f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in links if os.path.islink(link) and "shard-" in os.readlink(link)]

    assert not open_files()
    source = PackedSource(whole)
    copy = pickle.loads(pickle.dumps(source))
    assert len(open_files()) == 8
    assert np.array_equal(crop(copy, 4, 100, 200), crop(source, 4, 100, 200))
    copy.close()
    assert len(open_files()) == 4
    with pytest.raises(IndexError):
        crop(copy, 4, 100, 200)
    del source
    assert not open_files()


def test_many_threads_read_one_source(whole: Path) -> None:
    source = PackedSource(whole)
    expected = [crop(source, index, 0, 99_999) for index in range(6)]

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for _ in range(100):
            index, start = int(rng.integers(6)), int(rng.integers(10_000))
            if not np.array_equal(crop(source, index, start, 3000), expected[index][start : start + 3000]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_opening_does_not_read_a_million_rows(whole: Path, tmp_path: Path) -> None:
    out, count = copied(whole, tmp_path / "p"), 1_000_000
    rows = np.lib.format.open_memmap(out / "index.npy", "w+", ROW, (count,))
    rows[-2] = np.load(whole / "index.npy")[4]
    del rows
    header = json.loads((out / "pack.json").read_text()) | {"utterances": count}
    (out / "pack.json").write_text(json.dumps(header))
    (out / "ids.txt").unlink()  # must not be missed
    tracemalloc.start()
    began = time.perf_counter()
    source = PackedSource(out)
    seconds = time.perf_counter() - began
    assert np.array_equal(crop(source, 999_998, 0, 20), crop(PackedSource(whole), 4, 0, 20))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert seconds < 0.5 and len(source) == len(source.lengths) == count


def test_lines_are_read_by_number(tmp_path: Path) -> None:
    names = ["plain", "", "a\nb", "back\\slash\\n", "\r", "ä\x85声\u2028", "end\\"]
    (tmp_path / "l.txt").write_bytes("".join(escaped(names)).encode())
    lines = Lines(tmp_path / "l.txt", len(names))
    assert list(lines) == names and lines[-1] == "end\\" and lines[1:3] == names[1:3]
    assert "a\nb" in lines and len(pickle.loads(pickle.dumps(lines))) == 7
    with pytest.raises(IndexError):
        lines[7]
    with pytest.raises(IdemvoxError, match="has 7 lines instead of 8"):
        Lines(tmp_path / "l.txt", 8)[0]
    (tmp_path / "empty.txt").write_bytes(b"")
    assert list(Lines(tmp_path / "empty.txt", 0)) == []


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_packs_and_checks(listed: Path, whole: Path, tmp_path: Path) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["pack", *map(str, words)], env={"COLUMNS": "160"})
        return result.exit_code, result.output, str(result.exception or "")

    code, printed, _ = call(listed, tmp_path / "p", "--shard-gib", TINY, "-q")
    assert code == 0 and "6 utterances" in printed and "4 shards" in printed and "2, listed in" in printed
    assert content(tmp_path / "p") == content(whole)
    code, printed, _ = call(listed, tmp_path / "p", "--shard-gib", TINY, "--check", "-q")
    assert code == 0 and "nothing to do" in printed and "all 6 utterances are intact" in printed
    flip(tmp_path / "p" / "shard-00000.pcm", 0)
    code, printed, error = call("--check", tmp_path / "p", "-q")
    assert code == 1 and "damaged: a\n" in printed and "damaged in 1 of 6 utterances" in error
    assert "--check to check" in call(listed)[2]


def test_progress_goes_to_stderr(listed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pack(listed, tmp_path / "p")
    check(tmp_path / "p")
    out, err = capfd.readouterr()
    assert out == "" and "packing" in err and "checking" in err and "8/8" in err and "MB/s" in err
