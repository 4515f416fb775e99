"""Whose voice it is: against loops, while the store changes, and when it is nobody's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from idemvox.errors import IdemvoxError, StoreError
from idemvox.verification.calibration import Calibration, Term
from idemvox.verification.operating import Point
from idemvox.verification.scoring import Scorer
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.identification import Identifier, open_set_threshold
from idemvox.verifier.sqlite import SqliteStore

POINTS = (Point(0.001, 6.0, 0.001, None, None, 0.3), Point(0.01, 4.0, 0.01, None, None, 0.1))
CALIBRATION = Calibration(-2.0, 10.0, (), 0.5, "cosine", "calls", 500, 30_000, None, POINTS)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "s.sqlite", "m") as opened:
        yield opened


def enrol(store, name, vectors, channel="", **facts):
    store.enrol(name, [Voiceprint(vector, **facts) for vector in vectors], channel=channel)


def people(store):
    """Enrol 12 speakers in one or two channels, with one to four recordings; return them."""
    rng, found = np.random.default_rng(1), {}
    for n in range(12):
        for channel in ("phone", "room")[: 1 + n % 2]:
            found[f"p{n}", channel] = rng.standard_normal((1 + n % 4, 8)).astype(np.float32)
            enrol(store, f"p{n}", found[f"p{n}", channel], channel)
    return found


@pytest.mark.parametrize("compare", ["cosine", "euclidean"])
@pytest.mark.parametrize("combining", ["mean", "best"])
@pytest.mark.parametrize("channel", [None, "room"])
def test_scores_are_those_of_a_loop(store, compare, combining, channel):
    scorer, enrolled, probe = Scorer(compare), people(store), drawn(8, seed=2)
    expected: dict[str, float] = {}
    for (name, where), vectors in enrolled.items():
        if channel in (None, where):
            against = [vectors.mean(axis=0)] if combining == "mean" else vectors
            score = max(scorer.score(probe, vector) for vector in against)
            expected[name] = max(score, expected.get(name, -math.inf))
    found = Identifier(store, scorer, combining=combining, channel=channel).identify(probe, top=20)
    assert [c.speaker for c in found.candidates] == sorted(expected, key=lambda n: -expected[n])
    for candidate in found.candidates:
        assert candidate.score == pytest.approx(expected[candidate.speaker], rel=1e-5, abs=1e-5)
        where = enrolled[candidate.speaker, candidate.channel]
        best = max(scorer.score(probe, v) for v in ([where.mean(0)] if combining == "mean" else where))
        assert best == pytest.approx(candidate.score, rel=1e-5, abs=1e-5)
    assert found.decision == "undecided" and found.speaker is None and "not calibrated" in str(found)


def test_the_best_come_first_and_no_more_than_asked(store):
    people(store)
    identifier = Identifier(store, Scorer())
    every = identifier.identify(drawn(8), top=99).candidates
    assert len(every) == 12
    assert identifier.identify(drawn(8), top=3).candidates == every[:3]
    assert [c.score for c in every] == sorted((c.score for c in every), reverse=True)


@pytest.mark.parametrize("combining", ["mean", "best"])
def test_it_follows_the_store_and_reads_only_what_is_new(store, combining, monkeypatch):
    """Whoever changes it; after each change it answers as one that starts afresh."""
    enrolled, read = people(store), []
    genuine = SqliteStore.embeddings
    monkeypatch.setattr(SqliteStore, "embeddings", lambda s, ids: read.append(len(ids)) or genuine(s, ids))
    identifier, probe = Identifier(store, Scorer(), combining=combining), drawn(8, seed=5)

    def agrees():
        mine = identifier.identify(probe, top=99)
        count, fresh = list(read), Identifier(store, Scorer(), combining=combining).identify(probe, top=99)
        assert [c.speaker for c in mine.candidates] == [c.speaker for c in fresh.candidates]
        for one, other in zip(mine.candidates, fresh.candidates, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-6) and one.channel == other.channel
        read.clear()
        return count

    assert agrees() == [sum(map(len, enrolled.values()))]
    assert agrees() == []
    with SqliteStore(store.path) as other:
        enrol(other, "new", drawn(2, 8, seed=6))
        assert agrees() == [2]
        other.delete("p3")
        assert agrees() == []
        enrol(other, "p4", drawn(1, 8, seed=7), "phone")  # had one recording there
        assert agrees() == [2 if combining == "mean" else 1]
        other.delete("p5", channel="room")
        enrol(other, "p3", enrolled["p3", "phone"])
        assert agrees() == [4]
        for n in range(12):
            other.delete(f"p{n}")
            enrol(other, f"q{n}", drawn(1, 8, seed=20 + n), "phone")
            assert agrees() == [1]
            enrol(other, f"q{n}", drawn(1, 8, seed=90 + n), "phone")
            assert agrees() == [2 if combining == "mean" else 1]
        roster = identifier.roster()
        assert len(roster.used) == sum(map(len, roster.galleries)) < 40  # rows out of use do not pile up
        for name in other.names():
            other.delete(name)
        with pytest.raises(StoreError, match="is empty"):
            identifier.identify(probe)
        enrol(other, "Anna", drawn(1, 8))
        assert agrees() == [1]


def test_an_empty_store_and_a_missing_channel_are_named(store):
    identifier = Identifier(store, Scorer(), channel="phone")
    with pytest.raises(StoreError, match="is empty: enrol somebody first"):
        identifier.identify(drawn(4))
    enrol(store, "Anna", drawn(1, 4), "room")
    with pytest.raises(StoreError, match=r"nobody in .* is enrolled in channel 'phone'"):
        identifier.identify(drawn(4))
    enrol(store, "Bert", drawn(1, 4, seed=1), "phone")
    assert [c.speaker for c in identifier.identify(drawn(4)).candidates] == ["Bert"]


def test_nobody_below_the_threshold_of_a_calibrated_model(store):
    """The threshold rises with the number of comparisons."""
    enrol(store, "Anna", [[1, 0, 0]])
    enrol(store, "Bert", [[0, 1, 0]])
    identifier = Identifier(store, Scorer(), CALIBRATION)
    anna = identifier.identify([1, 0.1, 0])
    assert anna.speaker == "Anna" and anna.decision == "speaker" and anna.threshold == 6.0  # of 0.5 %
    assert anna.candidates[0].llr == pytest.approx(-2 + 10 * anna.candidates[0].score)
    assert str(anna).startswith("Anna: log-likelihood ratio 7.95 is at or above the threshold 6.00 for 2 ")
    stranger = identifier.identify([0.5, 0, 1])
    assert (stranger.speaker, stranger.decision) == (None, "nobody") and str(stranger).startswith("nobody: ")
    assert stranger.candidates[0].speaker == "Anna"
    between = [0.7, 0, 0.7]  # llr 5.07
    assert identifier.identify(between).decision == "nobody"
    assert identifier.identify(between, false_accept_rate=0.02).speaker == "Anna"


def test_open_set_threshold():
    assert open_set_threshold(CALIBRATION, 0.01, 1)[0] == 4.0
    assert open_set_threshold(CALIBRATION, 0.01, 10)[0] == 6.0
    llr, words = open_set_threshold(CALIBRATION, 0.01, 1000)
    assert llr == pytest.approx(math.log(100_000)) and "too few calibration trials" in words
    few = replace(CALIBRATION, points=(Point(0.1, 14.0, 0.1, None, None, 0.9),))
    assert open_set_threshold(few, 0.01, 10)[0] == 14.0
    assert open_set_threshold(replace(CALIBRATION, points=()), 0.01, 10)[0] == pytest.approx(math.log(1000))
    for rate in (0, 1, -0.1):
        with pytest.raises(IdemvoxError, match="between 0 and 1"):
            open_set_threshold(CALIBRATION, rate, 10)


def test_of_many_strangers_no_more_than_the_rate_get_a_name(store):
    """Scores with known likelihood ratios: impostors N(0, 1), targets N(d, 1), so llr = d s - d^2 / 2."""
    rng, shift, speakers = np.random.default_rng(0), 4.0, 50
    calibration = replace(CALIBRATION, offset=-(shift**2) / 2, slope=shift, points=())
    threshold, _ = open_set_threshold(calibration, 0.05, speakers)
    strangers = calibration.llr(rng.standard_normal(20_000 * speakers)).reshape(-1, speakers)
    assert (strangers.max(axis=1) >= threshold).mean() <= 0.05
    speaker = calibration.llr(shift + rng.standard_normal(20_000))
    assert (speaker >= threshold).mean() > 0.5  # so it is a threshold that can be used


def test_side_information_comes_from_the_store(store):
    """The seconds of all recordings in a mean count together."""
    calibration = replace(CALIBRATION, terms=(Term("longer", 2.0, 1.0, 0.0, 9.0),))
    enrol(store, "Anna", [[1, 0, 0], [1, 0.1, 0]], seconds=4.0)
    identifier = Identifier(store, Scorer(), calibration)
    (anna,) = identifier.identify([1, 0, 0], seconds=2.0).candidates
    assert anna.llr == pytest.approx(-2 + 10 * anna.score + 2 * math.log(8))
    (best,) = (
        Identifier(store, Scorer(), calibration, combining="best").identify([1, 0, 0], seconds=2).candidates
    )
    assert best.llr == pytest.approx(-2 + 10 * best.score + 2 * math.log(4))
    unknown = identifier.identify([1, 0, 0])
    assert unknown.decision == "undecided" and "durations, unknown for the recording" in str(unknown)
    enrol(store, "Bert", [[0, 1, 0]])
    lacking = identifier.identify([1, 0, 0], seconds=2.0)
    assert lacking.decision == "undecided" and "durations, unknown for 1 of the enrolments" in str(lacking)


def test_another_bandwidth_is_warned_of(store):
    enrol(store, "Anna", [[1, 0]], "phone", narrow=True)
    enrol(store, "Bert", [[0, 1]], narrow=False)
    enrol(store, "Carl", [[-1, 0]])
    identifier = Identifier(store, Scorer())
    assert "Anna's enrolments have nothing above 4 kHz" in str(identifier.identify([1, 0], narrow=False))
    assert "the recording has nothing above 4 kHz" in str(identifier.identify([0, 1], narrow=True))
    for probe, narrow in (([1, 0], True), ([0, 1], False), ([0, 1], None), ([-1, 0], True)):
        assert identifier.identify(probe, narrow=narrow).warnings == ()
