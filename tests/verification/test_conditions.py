"""Recordings that differ from those that a threshold was set on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from idemvox.verification.conditions import Conditions


@dataclass(frozen=True)
class Recording:
    speech: float
    level: float
    narrow: bool = False


@pytest.fixture
def studio():
    """The ranges of 101 recordings: 5 to 10 s of speech, -30 to -20 dB, none of telephone bandwidth."""
    return [Recording(5 + n / 20, -30 + n / 10) for n in range(101)]


def test_ranges_are_percentiles(studio):
    found = Conditions.of(studio, across=0.5)
    assert found.recordings == 101 and found.narrow == 0 and found.across == 0.5
    assert found.speech == tuple(np.percentile([r.speech for r in studio], (2.5, 97.5)))
    assert found.level == tuple(np.percentile([r.level for r in studio], (2.5, 97.5)))
    assert str(found) == (
        "101 recordings with 5.1 to 9.9 s of speech at -30 to -20 dB, 0% of telephone bandwidth; "
        "50% of the target trials are across recordings"
    )


def test_similar_recordings_give_no_warning(studio):
    found = Conditions.of(studio)
    assert [found.unlike(recording) for recording in studio] == [[]] * 101
    assert found.unlike(Recording(60.0, -25.0)) == []  # more speech does no harm


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (Recording(7.0, -25.0, narrow=True), "nothing above 4 kHz, like 0% of"),
        (
            Recording(2.0, -25.0),
            "2.0 s of speech; 95 % of the recordings that the threshold was set on have 5.1",
        ),
        (Recording(7.0, -50.0), "level is -50 dB; 95 %"),
        (Recording(7.0, -3.0), "level is -3 dB; 95 %"),
    ],
)
def test_each_difference_is_reported(studio, recording, words):
    [warning] = Conditions.of(studio).unlike(recording)
    assert words in warning


def test_wide_audio_is_unlike_calls(studio):
    calls = Conditions.of([replace(one, narrow=True) for one in studio])
    assert calls.unlike(studio[50]) == [
        "it has sound above 4 kHz, like 0% of the recordings that the threshold was set on"
    ]
    both = Conditions.of([replace(one, narrow=n % 2 == 0) for n, one in enumerate(studio)])
    assert both.unlike(studio[50]) == both.unlike(replace(studio[50], narrow=True)) == []


def test_pairs_from_one_recording_make_a_threshold_optimistic(studio):
    assert "same recording" in Conditions.of(studio, across=0.0).unfit()[0]
    assert Conditions.of(studio, across=0.3).unfit() == Conditions.of(studio).unfit() == []
