"""Where there is something to hear."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.audio.speech import Activity, active


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_the_length_without_silence_is_the_same_in_any_blocks(rate: int) -> None:
    rng = np.random.default_rng(rate)
    sound = 0.1 * rng.standard_normal(rate)
    wave = np.concatenate([1e-4 * rng.standard_normal(2 * rate), sound, np.zeros(rate // 2)]).astype(
        np.float32
    )
    for size in (len(wave), 777, 50):
        activity = Activity(rate)
        for start in range(0, len(wave), size):
            activity.feed(wave[start : start + size])
        assert activity.seconds() == pytest.approx(1.0, abs=0.03)


def test_a_second_of_speech_in_a_long_silence_is_found() -> None:
    power = np.zeros(360_000)  # an hour
    power[200_000:200_100] = 1e-3
    assert active(power).sum() == 100


def test_silence_and_nothing_and_what_is_not_a_number() -> None:
    activity = Activity(16_000)
    assert activity.seconds() == 0
    activity.feed(np.zeros(1000, np.float32))
    assert activity.seconds() == 0 and not active(np.zeros(0)).any()
    activity.feed(np.full(1000, np.nan, np.float32))
    activity.feed(np.full(1600, 0.1, np.float32))
    assert activity.seconds() == pytest.approx(0.1, abs=0.011)


def test_steady_noise_is_sound_throughout() -> None:
    power = np.random.default_rng(0).uniform(0.9, 1.1, 500)
    assert active(power).all()
