"""Finding sound and speech in a recording."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from idemvox.audio.read import read
from idemvox.audio.speech import Activity, active, speech


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


def test_silence_empty_audio_and_nan() -> None:
    activity = Activity(16_000)
    assert activity.seconds() == 0
    activity.feed(np.zeros(1000, np.float32))
    assert activity.seconds() == 0 and not active(np.zeros(0)).any()
    activity.feed(np.full(1000, np.nan, np.float32))
    activity.feed(np.full(1000, 0.5, np.float32))  # a constant offset is silence too
    assert activity.seconds() == 0
    activity.feed(0.1 * np.cos(np.arange(1600, dtype=np.float32)))
    assert activity.seconds() == pytest.approx(0.1, abs=0.011)


def test_steady_noise_is_sound_throughout() -> None:
    power = np.random.default_rng(0).uniform(0.9, 1.1, 500)
    assert active(power).all()


CORPORA = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))


def powers(wave: np.ndarray) -> np.ndarray:
    activity = Activity(16_000)
    activity.feed(np.asarray(wave, np.float32))
    return activity.powers


def seconds(wave: np.ndarray) -> float:
    stretches = speech(powers(wave))
    return float((stretches[:, 1] - stretches[:, 0]).sum()) / 100


def words(rng: np.random.Generator, count: int) -> np.ndarray:
    """Syllables of noise, 0.2 s long with 0.1 s between them."""
    syllable = np.r_[np.hanning(3200), np.zeros(1600)]
    return 0.1 * np.tile(syllable, count) * rng.standard_normal(4800 * count)


@pytest.mark.parametrize("noise", [0, 1e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("gain", [0.01, 1, 3])
def test_words_in_silence_or_noise_are_found_at_any_level(noise: float, gain: float) -> None:
    """Two phrases of 1.5 and 3 s within half a minute."""
    rng = np.random.default_rng(0)
    wave = np.zeros(30 * 16_000)
    for start, count in ((10, 5), (20, 10)):
        wave[start * 16_000 : start * 16_000 + 4800 * count] = words(rng, count)
    stretches = speech(powers(gain * (wave + noise * rng.standard_normal(len(wave)))))
    assert stretches == pytest.approx(np.array([[1000, 1140], [2000, 2290]]), abs=8)


@pytest.mark.parametrize("level", [0, 1e-6, 1e-3, 0.3])
def test_noise_tones_and_offsets_are_not_speech(level: float) -> None:
    rng, time = np.random.default_rng(1), np.arange(20 * 16_000) / 16_000
    noise = rng.standard_normal(len(time))
    for wave in (noise, np.sin(2 * np.pi * 50 * time), np.sin(2 * np.pi * 440 * time)):
        assert seconds(level * wave) == 0
    assert seconds(np.full(len(time), level)) == 0
    louder = np.r_[noise[:160_000], 10 * noise[160_000:]]  # an air conditioner is switched on
    assert seconds(level * louder) < 1


def test_clicks_and_empty_audio_are_not_speech() -> None:
    wave = 1e-4 * np.random.default_rng(2).standard_normal(160_000)
    wave[50_000:50_300] = 0.5
    wave[90_000:90_010] = -0.9
    assert seconds(wave) == 0
    for length in (0, 1, 159, 160, 400):
        assert seconds(wave[:length]) == 0


@pytest.mark.skipif(not CORPORA.is_dir(), reason="real speech is not here: set IDEMVOX_CORPORA")
def test_most_of_read_speech_is_speech_and_the_silence_around_it_is_not() -> None:
    rng, files = np.random.default_rng(3), sorted((CORPORA / "speech/librispeech").rglob("*.opus"))
    assert len(files) > 200
    for path in files[:: len(files) // 12]:
        wave = read(path)
        alone = seconds(wave)
        assert 0.55 * len(wave) / 16_000 < alone <= len(wave) / 16_000
        hiss = 3e-4 * rng.standard_normal(20 * 16_000)
        for silence in (np.zeros(20 * 16_000), hiss):
            assert seconds(np.r_[silence, wave, silence]) == pytest.approx(alone, rel=0.05)
