"""Whose voices a picture shows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import IdemvoxError
from idemvox.reports.picture import MOST_RECORDINGS
from idemvox.reports.voices import choose_voices, voices_in_manifest, voices_in_trials
from idemvox.verification.trials import Trials, load_trials


def read(tmp_path: Path, *lines: str) -> Trials:
    (tmp_path / "t.txt").write_text("\n".join(lines))
    return load_trials(tmp_path / "t.txt")


def test_a_chain_of_target_trials_is_one_speaker(tmp_path):
    """a-b and b-c are targets, so a, b and c are one voice; impostor trials say nothing."""
    trials = read(
        tmp_path,
        "1 anna/monday/a.wav anna/monday/b.wav",
        "1 anna/friday/c.wav anna/monday/b.wav",
        "1 otto/sunday/d.wav otto/sunday/e.wav",
        "0 anna/monday/a.wav otto/sunday/d.wav",
        "0 anna/monday/a.wav eve/sunday/f.wav",
    )
    assert voices_in_trials(trials) == {
        "anna/monday/a.wav": ("anna", "monday"),
        "anna/monday/b.wav": ("anna", "monday"),
        "anna/friday/c.wav": ("anna", "friday"),
        "otto/sunday/d.wav": ("otto", "sunday"),
        "otto/sunday/e.wav": ("otto", "sunday"),
    }


def test_speakers_whose_folders_do_not_tell_are_numbered(tmp_path):
    plain = voices_in_trials(read(tmp_path, "1 a b", "1 d c", "0 a c"))
    assert plain["a"] == plain["b"] and plain["c"] == plain["d"]
    assert {speaker for speaker, _ in plain.values()} == {"speaker 1", "speaker 2"}
    same = voices_in_trials(read(tmp_path, "1 x/r/a x/r/b", "1 x/q/c x/q/d"))
    assert Counter(same.values()) == {("speaker 1", "r"): 2, ("speaker 2", "q"): 2}
    mixed = voices_in_trials(read(tmp_path, "1 x/r/a y/r/b", "1 z/r/c z/q/d"))
    assert {speaker for speaker, _ in mixed.values()} == {"speaker 1", "z"}


def test_a_manifest_tells_by_its_columns():
    rows = [
        Utterance("a", "a.wav", 1.0, speaker="s", recording="r"),
        Utterance("b", "b.wav", 1.0, speaker="s"),
        Utterance("c", "c.wav", 1.0),
    ]
    assert voices_in_manifest(Manifest(rows, Path())) == {"a": ("s", "r"), "b": ("s", "")}


def population(*sizes: int, recordings: int = 2) -> dict[str, tuple[str, str]]:
    """Speaker s0 with sizes[0] utterances, spread over recordings, and so on."""
    return {f"{s}-{u:03}": (f"s{s}", f"r{u % recordings}") for s, n in enumerate(sizes) for u in range(n)}


def test_those_with_most_utterances_and_no_more_than_asked_of_each():
    voices = population(3, 9, 5, 7)
    chosen = choose_voices(voices, speakers=3, utterances=6, seed=1)
    assert Counter(voices[name][0] for name in chosen) == {"s1": 6, "s3": 6, "s2": 5}
    assert len(set(chosen)) == len(chosen)


def test_the_seed_decides_which_and_the_order_of_the_voices_does_not():
    voices = population(40, 40)
    first = choose_voices(voices, utterances=5, seed=1)
    assert choose_voices(dict(reversed(voices.items())), utterances=5, seed=1) == first
    assert choose_voices(voices, utterances=5, seed=2) != first


def test_no_more_recordings_than_there_are_markers():
    many = {f"{s}{r}{u}": (s, f"r{r}") for s in "ab" for r in range(14) for u in range(1 + r)}
    chosen = choose_voices(many, utterances=1000)
    recordings = {many[name][1] for name in chosen if many[name][0] == "a"}
    assert recordings == {f"r{r}" for r in range(14 - MOST_RECORDINGS, 14)}


@pytest.mark.parametrize(
    ("voices", "says"),
    [
        ({}, "two speakers.* 0"),
        (population(9), "two speakers.* 1"),
        (population(2, 1), "four utterances.* 3"),
    ],
)
def test_too_few(voices, says):
    with pytest.raises(IdemvoxError, match=says):
        choose_voices(voices)
