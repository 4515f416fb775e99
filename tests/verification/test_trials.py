"""Trial lists: reading, writing, drawing."""

from __future__ import annotations

import logging
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idemvox.corpus.manifest import Manifest, Utterance
from idemvox.errors import IdemvoxError
from idemvox.verification.drawing import make_trials
from idemvox.verification.trials import OFFICIAL, load_trials, save_trials


def write(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 a b\n0 a c\n",
        "target a b\n\n  \nnontarget  a   c",
        "tgt a b\r\nimp a c\r\n",
        "a b tgt\na c imp\n",
        "\ufeff1\ta\tb\n0\ta\tc\n",
    ],
)
def test_all_common_formats_are_read(tmp_path, text):
    trials = load_trials(write(tmp_path, text))
    assert list(trials) == [(True, "a", "b"), (False, "a", "c")]
    assert trials.name == "list" and trials.ids == ("a", "b", "c")
    assert (len(trials), trials.targets, trials.impostors) == (2, 1, 1)
    assert trials.enrol == ["a", "a"] and trials.test == ["b", "c"]
    assert trials.enrol_index.itemsize == 4 and trials.labels.dtype == bool


def test_ids_that_look_like_labels_are_read_correctly(tmp_path):
    trials = load_trials(write(tmp_path, "1 0 1\n0 1 2\n"))
    assert list(trials) == [(True, "0", "1"), (False, "1", "2")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1 a b\n\n2 a c\n", "line 3"),
        ("1 a b\n1 a\n", "line 2"),
        ("1 a b c\n", "line 1"),
        ("1 a b\na c 0\n", "line 2"),
        ("\n \n", "no trials"),
    ],
)
def test_a_bad_line_is_reported(tmp_path, text, says):
    with pytest.raises(IdemvoxError, match=says):
        load_trials(write(tmp_path, text))


def test_files_that_are_no_list_are_refused(tmp_path):
    with pytest.raises(IdemvoxError, match="check the path"):
        load_trials(tmp_path / "none.txt")
    (tmp_path / "wave.wav").write_bytes(b"RIFF\xff\xfe\xfa\x80")
    with pytest.raises(IdemvoxError, match="UTF-8"):
        load_trials(tmp_path / "wave.wav")


def official_list(path, count, prefix=""):
    """Write so many trials between VoxCeleb1 paths."""
    names = [f"{prefix}id1{i:04}/1zcIwhmdeo4/{i:05}.wav" for i in range(300)]
    lines = (f"{i % 2} {names[i % 300]} {names[i // 300]}\n" for i in range(count))
    path.write_text("".join(lines))
    return path


@pytest.mark.parametrize(
    ("count", "name"), [(37_611, "VoxCeleb1-O (cleaned)"), (37_720, "VoxCeleb1-O (original)")]
)
@pytest.mark.parametrize("prefix", ["", "wav/"])
def test_official_lists_are_recognised_by_their_number_of_trials(tmp_path, caplog, count, name, prefix):
    path = official_list(tmp_path / "trials.txt", count, prefix)
    assert load_trials(path).name == name
    assert load_trials(path, "mine").name == "mine"
    path.write_text(path.read_text().removesuffix("\n").rpartition("\n")[0])
    assert load_trials(path).name == "trials"  # one less
    assert not caplog.records


def test_a_list_of_another_corpus_is_not_official(tmp_path):
    path = official_list(tmp_path / "trials.txt", 37_611)
    path.write_text(path.read_text().replace("id10007/", "anna/"))
    assert load_trials(path).name == "trials"


def test_an_official_file_name_with_another_number_gives_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert load_trials(official_list(tmp_path / "veri_test2.txt", 37_610)).name == "veri_test2"
    assert "veri_test2.txt has 37,610 trials, but VoxCeleb1-O (cleaned) has 37,611" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # the two mixed up: recognised by number, with a warning
        assert (
            load_trials(official_list(tmp_path / "veri_test2.txt", 37_720)).name == "VoxCeleb1-O (original)"
        )
    assert "37,720 trials, but VoxCeleb1-O (cleaned)" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        load_trials(official_list(tmp_path / "veri_test.txt", 37_720))
    assert not caplog.records


def test_voices_keys_of_another_number_give_a_warning(tmp_path, caplog):
    stem = "Lab41-SRI-VOiCES-rm1-none-sp0032-ch127535-sg0012-mc01-stu-clo-dg080"
    (tmp_path / "dev-trial-keys.lst").write_text(f"{stem} sid_dev/sp0032/{stem}.wav tgt\n")
    with caplog.at_level(logging.WARNING):
        assert load_trials(tmp_path / "dev-trial-keys.lst").targets == 1
    assert "has 1 trials, but VOiCES 2019 dev has 4,038,656" in caplog.text


def test_no_two_official_lists_have_the_same_number_of_trials():
    assert len({official.trials for official in OFFICIAL}) == len(OFFICIAL) == 7
    assert len({name for official in OFFICIAL for name in official.files}) == 8


ids = st.text(st.characters(exclude_characters="\t", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), ids, ids), min_size=1, max_size=8))
def test_saved_lists_are_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("t")
    source = write(folder, "".join(f"{int(x)}\t{a}\t{b}\n" for x, a, b in rows))
    save_trials(load_trials(source), folder / "again.txt")
    assert list(load_trials(folder / "again.txt")) == rows


def test_ids_that_cannot_be_saved_are_refused(tmp_path):
    trials = load_trials(write(tmp_path, "1 a b\n"))
    object.__setattr__(trials, "ids", ("a\nb", "c"))
    with pytest.raises(IdemvoxError, match="rename"):
        save_trials(trials, tmp_path / "x.txt")
    assert not (tmp_path / "x.txt").exists()


def test_select_keeps_only_what_it_needs(tmp_path):
    trials = load_trials(write(tmp_path, "1 a b\n0 a c\n0 d e\n"))
    some = trials.select(np.array([False, True, True]), "few")
    assert list(some) == list(trials)[1:] and some.ids == ("a", "c", "d", "e") and some.name == "few"


def corpus(speakers=6, recordings=3, utterances=4):
    rows = [
        Utterance(f"{s}-{r}-{u}", f"{s}/{r}/{u}.wav", 2.0, speaker=f"s{s}", recording=f"s{s}r{r}")
        for s in range(speakers)
        for r in range(recordings)
        for u in range(utterances)
    ]
    return Manifest(rows, Path("."))


@pytest.mark.parametrize("kind", ["across", "within", "any"])
def test_drawn_pairs_have_the_right_labels(kind):
    manifest = corpus()
    trials = make_trials(manifest, kind, targets=120, impostors=400, seed=3)
    assert (trials.targets, trials.impostors, trials.name) == (120 if kind != "within" else 108, 400, kind)
    of = {u.id: u for u in manifest}
    for label, a, b in trials:
        assert a != b and label == (of[a].speaker == of[b].speaker)
        if label and kind != "any":
            assert (of[a].recording == of[b].recording) == (kind == "within")
    assert len({frozenset((a, b)) for _, a, b in trials}) == len(trials)
    per_speaker = Counter(of[a].speaker for label, a, _ in trials if label)
    assert max(per_speaker.values()) - min(per_speaker.values()) <= 1 and len(per_speaker) == 6
    sides = Counter(side for label, a, b in trials if not label for side in (of[a].speaker, of[b].speaker))
    assert max(sides.values()) - min(sides.values()) <= 5


def test_all_pairs_are_drawn_if_fewer_exist_than_asked_for():
    trials = make_trials(corpus(3, 2, 2), "any", targets=10**6, impostors=10**6)
    assert trials.targets == 3 * 6 and trials.impostors == 3 * 16  # C(4, 2) each; 4 x 4 per pair of speakers


def test_speakers_with_few_pairs_leave_more_to_others():
    rows = [Utterance(f"a{i}", f"a{i}", 1.0, speaker="a", recording=str(i)) for i in range(2)]
    rows += [Utterance(f"b{i}", f"b{i}", 1.0, speaker="b", recording=str(i)) for i in range(9)]
    trials = make_trials(Manifest(rows, Path(".")), "across", targets=20, impostors=18)
    of = Counter(a[0] for label, a, _ in trials if label)
    assert of == {"a": 1, "b": 19} and trials.impostors == 18


def with_genders(genders):
    rows = [
        replace(u, gender=genders[int(u.id[0])] if genders[int(u.id[0])] else None)
        for u in corpus(len(genders))
    ]
    return Manifest(rows, Path("."))


def test_impostors_of_the_same_gender():
    """All pairs of speakers of one gender are drawn, evenly, and no others; targets do not change."""
    manifest = with_genders(["f", "m", "f", "m", "f", "", "x"])
    trials = make_trials(manifest, targets=50, impostors=400, same_gender=True)
    of = {u.id: u for u in manifest}
    pairs = Counter(frozenset((a[0], b[0])) for label, a, b in trials if not label)
    assert {"".join(sorted(pair)) for pair in pairs} == {"02", "04", "24", "13"}
    assert set(pairs.values()) == {100}
    assert all(of[a].gender == of[b].gender for label, a, b in trials if not label)
    plain = make_trials(manifest, targets=50, impostors=400)
    assert [t for t in plain if t[0]] == [t for t in trials if t[0]]


def test_genders_that_cannot_be_used():
    with pytest.raises(IdemvoxError, match="two speakers of one known gender"):
        make_trials(with_genders(["f", "m", "", ""]), same_gender=True)
    rows = [replace(u, gender="fm"[n % 2]) for n, u in enumerate(corpus())]
    with pytest.raises(IdemvoxError, match=r"speaker 's0' has 2 genders \(f, m\)"):
        make_trials(Manifest(rows, Path(".")), same_gender=True)


def test_draws_only_depend_on_the_seed():
    rows = list(corpus())
    first = make_trials(corpus(), "across", targets=50, impostors=60, seed=1)
    random.Random(0).shuffle(rows)
    again = make_trials(Manifest(rows, Path(".")), "across", targets=50, impostors=60, seed=1)
    assert list(first) == list(again)
    assert set(first) != set(make_trials(corpus(), "across", targets=50, impostors=60, seed=2))
    within = make_trials(corpus(), "within", targets=50, impostors=60, seed=1)
    assert [t for t in first if not t[0]] == [t for t in within if not t[0]]


def test_impossible_draws_are_refused():
    unlabelled = corpus().without_labels()
    with pytest.raises(IdemvoxError, match="at least two speakers"):
        make_trials(unlabelled)
    with pytest.raises(IdemvoxError, match="two recordings"):
        make_trials(corpus(3, 1, 4), "across")
    with pytest.raises(IdemvoxError, match="no recording holds two utterances"):
        make_trials(corpus(3, 4, 1), "within")
    with pytest.raises(IdemvoxError, match="two utterances"):
        make_trials(corpus(3, 1, 1), "any")
    with pytest.raises(IdemvoxError, match="unknown kind"):
        make_trials(corpus(), "cross")


def test_speakers_of_both_sides_are_returned(tmp_path):
    trials = load_trials(write(tmp_path, "1 a b\n0 c a\n"))
    enrol, test = trials.speakers({"a": "zoe", "b": "zoe", "c": "amy", "d": "eve"})
    assert (enrol.tolist(), test.tolist()) == ([1, 0], [1, 1])
    with pytest.raises(IdemvoxError, match=r"1 of the 3 .* no speaker: b; fill in"):
        trials.speakers({"a": "zoe", "c": "amy"})
