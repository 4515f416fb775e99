"""Simulated recordings: dealing, cutting, resuming and repeating."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

import idemvox.corpus.simulated.recordings as simulate
from idemvox.audio.channel import ChannelSpec
from idemvox.audio.read import probe, read, write_wav
from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.corpus.simulated.recordings import simulate_recordings
from idemvox.errors import IdemvoxError

SPEC = ChannelSpec(rt60=(0.02, 0.05), codecs=(("none", 1.0), ("g711", 1.0)))


def corpus(folder: Path, speakers: list[str | None], each: int = 5, seconds: float = 0.3) -> Manifest:
    rows = []
    rng = np.random.default_rng(0)
    for number, speaker in enumerate(speakers):
        for index in range(each):
            path = f"{number}-{index}.wav"
            write_wav(folder / path, 0.1 * rng.standard_normal(round(seconds * 16_000)))
            rows.append(Utterance(f"s{number}/u{index}", path, seconds, 16_000, speaker))
    return Manifest(rows, folder)


def run(manifest: Manifest, out: Path, **changes: object) -> Manifest:
    settings = {"recordings": 2, "spec": SPEC, "seed": 1, "workers": 1, "progress": False} | changes
    return simulate_recordings(manifest, out, **settings)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.wav"))}


def test_utterances_are_dealt_evenly_into_named_recordings(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann", "bo/b"])
    result = run(source, tmp_path / "out")
    assert [u.id for u in result] == [u.id for u in source]
    counts = Counter((u.speaker, u.recording) for u in result)
    assert counts == {
        ("ann", "ann/sim0"): 3,
        ("ann", "ann/sim1"): 2,
        ("bo/b", "bo/b/sim0"): 3,
        ("bo/b", "bo/b/sim1"): 2,
    }
    for utterance in result:
        info = probe(result.path(utterance))
        assert (info.rate, info.channels, info.frames) == (16_000, 1, 4800)
        assert utterance.seconds == pytest.approx(0.3, abs=1e-3)
        assert not utterance.path.startswith(("/", ".."))
    assert not np.allclose(read(result.path(result[0])), read(source.path(source[0])), atol=1e-3)


def test_utterances_without_a_speaker_have_a_recording_each(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann", None], each=4)
    result = run(source, tmp_path / "out", seconds=(0.1, 0.2))
    unknown = [u for u in result if u.speaker is None]
    assert len(unknown) == 8  # each cut in two
    by_source = defaultdict(set)
    for utterance in unknown:
        by_source[utterance.id.partition("#")[0]].add(utterance.recording)
    assert all(len(recordings) == 1 for recordings in by_source.values())
    assert len(set.union(*by_source.values())) == 4


def test_there_may_be_no_speakers(tmp_path: Path) -> None:
    with pytest.raises(IdemvoxError, match="speaker"):
        run(corpus(tmp_path, [None]), tmp_path / "out")


def test_the_order_of_work_changes_nothing(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann", "bob"], each=3)
    run(source, tmp_path / "one")
    run(source, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    run(source, tmp_path / "three", seed=2)
    assert contents(tmp_path / "one") != contents(tmp_path / "three")


def test_a_finished_folder_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = corpus(tmp_path / "in", ["ann"])
    first = run(source, tmp_path / "out")
    monkeypatch.setattr(simulate, "_run", None)
    assert list(run(source, tmp_path / "out")) == list(first)


def test_an_interrupted_simulation_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = corpus(tmp_path / "in", ["ann"])
    run(source, tmp_path / "whole")
    written: list[Path] = []

    def fails_at_third(path: Path, wave: np.ndarray) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        write_wav(path, wave)

    monkeypatch.setattr(simulate, "write_wav", fails_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()
    stamps = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(simulate, "write_wav", write_wav)
    result = run(source, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in written} == stamps
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(result) == 5


def test_a_missing_file_is_made_again(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann"])
    first = run(source, tmp_path / "out")
    before = contents(tmp_path / "out")
    first.path(first[2]).unlink()
    run(source, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann"])
    run(source, tmp_path / "out")
    with pytest.raises(IdemvoxError, match=r"another seed; delete"):
        run(source, tmp_path / "out", seed=9)
    with pytest.raises(IdemvoxError, match=r"another source"):
        run(source[:4], tmp_path / "out")
    with pytest.raises(IdemvoxError, match=r"another spec"):
        run(source, tmp_path / "out", spec=ChannelSpec(response_db=1))


def test_foreign_manifest_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.csv").write_text("mine")
    with pytest.raises(IdemvoxError, match="other audio"):
        run(corpus(tmp_path / "in", ["ann"]), tmp_path / "out")
    assert (tmp_path / "out" / "manifest.csv").read_text() == "mine"


def test_utterances_are_cut_into_equal_pieces(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann"], each=1, seconds=1.0)
    result = run(
        source,
        tmp_path / "out",
        seconds=(0.2, 0.4),
        spec=ChannelSpec(0.0, (0.001, 0.001), (90, 90), (("none", 1),), 0),
    )
    assert [u.id for u in result] == ["s0/u0#0", "s0/u0#1", "s0/u0#2"]
    joined = np.concatenate([read(result.path(u)) for u in result])
    assert len(joined) == 16_000
    original = read(source.path(source[0]))
    assert np.corrcoef(joined, original)[0, 1] > 0.95


def test_pieces_are_not_too_short(tmp_path: Path) -> None:
    """0.5 s in pieces of 0.3-0.4 s: two of 0.25 s would be lost, so one of 0.4 s."""
    source = corpus(tmp_path / "in", ["ann"], each=1, seconds=0.5)
    assert [u.seconds for u in run(source, tmp_path / "out", seconds=(0.3, 0.4))] == [0.4]
    with pytest.raises(IdemvoxError, match="long enough"):
        run(source, tmp_path / "none", seconds=(2.0, 3.0))


def test_speeds_make_further_speakers(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann"], each=2, seconds=0.36)
    result = run(source, tmp_path / "out", speeds=(1.0, 0.9))
    assert result.speakers == ["ann", "ann@0.9"]
    assert [u.id for u in result] == ["s0/u0", "s0/u1", "s0/u0@0.9", "s0/u1@0.9"]
    assert [u.seconds for u in result] == pytest.approx([0.36, 0.36, 0.4, 0.4], abs=1e-3)
    assert {u.recording for u in result} == {"ann/sim0", "ann/sim1", "ann@0.9/sim0", "ann@0.9/sim1"}


def test_speed_changes_pitch(tmp_path: Path) -> None:
    write_wav(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000))
    source = Manifest([Utterance("t", "tone.wav", 1.0, 16_000, "ann")], tmp_path)
    result = run(
        source,
        tmp_path / "out",
        speeds=(0.5,),
        spec=ChannelSpec(0.0, (0.05, 0.05), (60, 60), (("none", 1),), 0),
    )
    spectrum = np.abs(np.fft.rfft(read(result.path(result[0]))))
    assert np.argmax(spectrum) / result[0].seconds == pytest.approx(500, abs=2)


def test_unusual_names_stay_distinct_and_inside_the_folder(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(3200))
    names = ["a/b", "a_b", "../x", "..", "é", "a b", "unknown", "n" * 300]
    rows = [Utterance(name, "a.wav", 0.2, 16_000, name) for name in names] + [Utterance("z", "a.wav", 0.2)]
    result = run(Manifest(rows, tmp_path), tmp_path / "out")
    paths = [result.path(u).resolve() for u in result]
    assert len(set(paths)) == len(rows)
    assert all(path.is_relative_to((tmp_path / "out").resolve()) and path.exists() for path in paths)


def test_colliding_ids_are_an_error(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.full(8000, 0.1))
    rows = [Utterance("a", "a.wav", 0.5, 16_000, "s"), Utterance("a#0", "a.wav", 0.2, 16_000, "s")]
    with pytest.raises(IdemvoxError, match="same id"):
        run(Manifest(rows, tmp_path), tmp_path / "out", seconds=(0.1, 0.25))


@pytest.mark.parametrize(
    "wrong",
    [
        {"recordings": 0},
        {"workers": 0},
        {"seconds": (3.0, 1.0)},
        {"speeds": ()},
        {"speeds": (1.0, 1.0)},
        {"speeds": (0.0,)},
    ],
)
def test_unusable_settings_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(IdemvoxError):
        run(corpus(tmp_path / "in", ["ann"], each=1), tmp_path / "out", **wrong)


def test_unreadable_source_names_the_file(tmp_path: Path) -> None:
    source = corpus(tmp_path / "in", ["ann"], each=2)
    source.path(source[1]).write_bytes(b"not audio")
    with pytest.raises(IdemvoxError, match=r"0-1\.wav"):
        run(source, tmp_path / "out", workers=2)


def test_a_speaker_with_few_utterances_gets_fewer_recordings(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for speaker, count in (("many", 9), ("few", 4), ("one", 1)):
        for n in range(count):
            write_wav(tmp_path / f"{speaker}{n}.wav", rng.standard_normal(3200) * 0.1)
            rows.append(Utterance(f"{speaker}{n}", f"{speaker}{n}.wav", 0.2, 16_000, speaker))
    made = simulate_recordings(
        Manifest(rows, tmp_path), tmp_path / "out", 4, ChannelSpec(), 0, fewest=2, workers=1, progress=False
    )
    found = {s: len({u.recording for u in made if u.speaker == s}) for s in made.speakers}
    assert found == {"many": 4, "few": 2, "one": 1}
