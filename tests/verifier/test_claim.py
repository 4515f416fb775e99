"""Verifying a recording against an enrolled speaker: as two recordings are compared, but with their mean."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from idemvox.errors import NobodyEnrolled, StoreError, UnknownSpeaker
from idemvox.verification.calibration import Calibration, Term
from idemvox.verification.conditions import Conditions
from idemvox.verification.operating import Point
from idemvox.verification.scoring import Scorer
from idemvox.verifier.claim import verify_claim
from idemvox.verifier.enrolment import Voiceprint
from idemvox.verifier.listening import Facts
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.verifier import Verifier, Voice

POINT = Point(0.01, 0.5, 0.01, 0.009, 0.011, 0.1)
PLAIN = Calibration(0.0, 1.0, (), 0.5, "cosine", "calls", 9000, 90_000, 40, (POINT,), None)
FACTS = Facts("call.wav", "speech", 5.0, 4.0, -20.0, 0.0, False, False, 7)


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "s.sqlite", "m") as opened:
        yield opened


def voice(*numbers: float, **facts) -> Voice:
    return Voice(replace(FACTS, **facts), np.array(numbers, np.float32))


def prints(*rows, seconds: float | None = 3.0, narrow: bool | None = False) -> list[Voiceprint]:
    return [Voiceprint(np.array(row, np.float32), "a.wav", seconds, narrow=narrow) for row in rows]


def claim(store, recording: Voice, name: str = "Anna", calibration=PLAIN, **more):
    return verify_claim(
        Verifier(None, Scorer(), calibration=calibration), recording, name, store=store, **more
    )


def test_the_score_is_that_against_the_mean_of_the_enrolments(store):
    store.enrol("Anna", prints([2, 0], [0, 4]))
    store.enrol("Ben", prints([0, 1]))
    verdict = claim(store, voice(0, 3))
    mean = np.array([1, 2])
    assert verdict.llr == pytest.approx(mean[1] / math.hypot(*mean)) and verdict.decision == "accept"
    assert verdict.speech == (4.0, 6.0) and not verdict.reasons and not verdict.warnings
    assert claim(store, voice(-1, 0)).decision == "reject"


def test_of_several_channels_that_of_the_same_bandwidth_which_matches_best(store):
    store.enrol("Anna", prints([1, 1]), channel="room")
    store.enrol("Anna", prints([1, 0]), channel="headset")
    store.enrol("Anna", prints([0, 1], narrow=True), channel="phone")
    assert claim(store, voice(1, 0)).score == pytest.approx(1)
    assert claim(store, voice(1, 0), channel="room").score == pytest.approx(0.5**0.5)
    wide = claim(store, voice(0, 1))
    assert wide.score == pytest.approx(0.5**0.5) and not wide.reasons
    assert claim(store, voice(0, 1, narrow=True)).score == pytest.approx(1)
    (reason,) = claim(store, voice(0, 1), channel="phone").reasons
    assert reason.startswith("the enrolment of Anna has nothing above 4 kHz")


def test_one_of_the_enrolled_recordings_is_told(store):
    store.enrol("Anna", prints([2, 0], [0, 4]))
    assert claim(store, voice(2, 0)).warnings == ("both recordings are the same audio",)
    assert claim(store, voice(2, 0.5)).warnings == ()


def test_what_is_unknown_of_an_enrolment_is_not_held_against_it(store):
    """Its level is not stored, and an imported one may lack its bandwidth."""
    store.enrol("Anna", prints([1, 0], narrow=None))
    conditions = Conditions(recordings=90, speech=(2.0, 9.0), level=(-30.0, -10.0), narrow=0.0, across=0.9)
    calibration = replace(PLAIN, conditions=conditions)
    assert claim(store, voice(1, 0.1), calibration=calibration).warnings == ()
    (warning,) = claim(store, voice(1, 0.1, level=-70.0), calibration=calibration).warnings
    assert warning.startswith("call.wav: its level is -70 dB")


def test_durations_are_those_of_the_recording_and_of_all_enrolments(store):
    store.enrol("Anna", prints([1, 0], [1, 0.1]))
    store.enrol("Old", prints([0, 1], seconds=None))
    timed = replace(PLAIN, terms=(Term("shorter", 2.0, 1.0, 0.0, 9.0), Term("longer", 3.0, 1.0, 0.0, 9.0)))
    verdict = claim(store, voice(1, 0.05), calibration=timed)
    assert verdict.llr == pytest.approx(verdict.score + 2 * math.log(4) + 3 * math.log(6))
    with pytest.raises(StoreError, match="durations of the enrolments of 'Old' are unknown"):
        claim(store, voice(0, 1), "Old", calibration=timed)


def test_no_score_without_speech_and_no_claim_without_enrolment(store):
    store.enrol("Anna", prints([1, 0]))
    silent = Voice(replace(FACTS, content="silence", speech=0.0), None)
    verdict = claim(store, silent)
    assert (verdict.decision, verdict.score, verdict.reasons) == ("abstain", None, ("call.wav is silent",))
    assert claim(store, voice(1, 0), calibration=None).llr is None
    with pytest.raises(UnknownSpeaker, match="unknown speaker 'Ana'"):
        claim(store, voice(1, 0), "Ana")
    with pytest.raises(NobodyEnrolled, match="not enrolled in channel 'phone'"):
        claim(store, voice(1, 0), channel="phone")
