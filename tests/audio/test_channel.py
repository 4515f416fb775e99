"""Simulated recordings: alignment, level, noise, response, codecs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from idemvox.audio.channel import CODECS, Channel, ChannelSpec, active_rms, device_response, draw_channel
from idemvox.errors import IdemvoxError

RATE = 16_000
IMPULSE = np.ones(1, dtype=np.float32)


def speechlike(seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    """Noise of 300-3000 Hz with a syllable-like envelope, and pauses."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    wave = signal.lfilter(*signal.butter(4, [300, 3000], "band", fs=RATE), rng.standard_normal(count))
    beats = rng.uniform(0, 1, count // 1600 + 2) ** 2
    wave *= np.interp(np.arange(count), np.arange(len(beats)) * 1600, beats)
    return (0.2 * wave / np.max(np.abs(wave))).astype(np.float32)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """Return the delay of ``b`` relative to ``a``, in samples."""
    return int(np.argmax(signal.correlate(b, a, method="fft"))) - (len(a) - 1)


def level_db(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(b.astype(float) ** 2) / np.mean(a.astype(float) ** 2)))


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_codecs_stay_aligned_and_similar(codec: str) -> None:
    wave = speechlike()
    out = CODECS[codec](wave)
    assert out.shape == wave.shape
    assert out.dtype == np.float32
    assert abs(lag(wave, out)) <= 16  # 1 ms
    assert np.corrcoef(wave, out)[0, 1] > (0.5 if codec == "gsm" else 0.8)  # GSM models voices, not noise
    if codec != "none":
        assert not np.array_equal(wave, out)


@pytest.mark.parametrize("codec", ["g711", "gsm"])
def test_telephone_codecs_are_narrowband(codec: str) -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    power = np.abs(np.fft.rfft(CODECS[codec](noise))) ** 2
    assert power[4500:].sum() < 1e-3 * power[:3500].sum()


@pytest.mark.parametrize("codec", sorted(CODECS))
@pytest.mark.parametrize("samples", [1, 100, 3201])
def test_short_waves_keep_their_length(codec: str, samples: int) -> None:
    channel = Channel(IMPULSE, IMPULSE, codec, -1.0, 20.0, 0)
    assert channel.apply(speechlike(1.0)[:samples], 0).shape == (samples,)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**62), gain=st.sampled_from([1e-3, 0.1, 1.0, 4.9]))
def test_any_strong_channel_keeps_length_time_and_level(seed: int, gain: float) -> None:
    spec = ChannelSpec(12.0, (0.05, 0.3), (8, 20), tuple((name, 1.0) for name in CODECS), 0.25)
    wave = (speechlike() * gain).astype(np.float32)
    out = draw_channel(seed, spec).apply(wave, 1)
    assert out.shape == wave.shape
    assert np.max(np.abs(out)) < 1
    if np.max(np.abs(out)) < 0.98:  # else the level had to give way
        assert abs(level_db(wave, out)) < 0.1
    envelopes = [np.convolve(np.abs(x), np.ones(160) / 160, "same") for x in (wave, out)]
    envelopes = [e - e.mean() for e in envelopes]
    assert (
        abs(lag(envelopes[0], envelopes[1])) <= 640
    )  # the room smears the envelope, it does not move it far


def test_alignment_without_a_room() -> None:
    """Device, floor and every codec: within 1 ms."""
    wave = speechlike()
    for seed, codec in enumerate(CODECS):
        device = device_response(np.random.default_rng(seed), 12.0, narrowband=1.0)
        out = Channel(IMPULSE, device, codec, -1.0, 25.0, seed).apply(wave, 0)
        assert abs(lag(wave, out)) <= 16


def test_silence_and_empty_waves() -> None:
    channel = draw_channel(1, ChannelSpec(rt60=(0.05, 0.1)))
    assert not channel.apply(np.zeros(1000, dtype=np.float32), 0).any()
    assert channel.apply(np.zeros(0, dtype=np.float32), 0).shape == (0,)


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_noise_floor_has_the_requested_ratio(snr_db: float) -> None:
    """The floor is relative to the level of speech alone, without the pauses."""
    wave = np.concatenate([np.zeros(RATE, dtype=np.float32), speechlike(2.0)])
    out = Channel(IMPULSE, IMPULSE, "none", -1.0, snr_db, 0).apply(wave, 0)
    gain = np.dot(out, wave) / np.dot(wave, wave)
    floor = float(np.sqrt(np.mean(out[:RATE].astype(float) ** 2)))
    assert 20 * np.log10(gain * active_rms(wave) / floor) == pytest.approx(snr_db, abs=0.7)


@pytest.mark.parametrize("colour", [-2.0, -1.0, 0.0])
def test_noise_has_the_requested_colour(colour: float) -> None:
    """Power over frequency falls by 3 dB an octave per unit of colour."""
    wave = (1e-6 * speechlike(4.0)).astype(np.float32)
    wave[0] = 1e-5
    out = Channel(IMPULSE, IMPULSE, "none", colour, -60.0, 0).apply(wave, 0)
    hertz, power = signal.welch(out, RATE, nperseg=2048)
    inside = (hertz > 200) & (hertz < 7000)
    slope = np.polyfit(np.log(hertz[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(colour, abs=0.15)


def test_noise_differs_between_utterances_but_not_between_runs() -> None:
    wave = speechlike(0.5)
    channel = Channel(IMPULSE, IMPULSE, "none", -1.0, 10.0, 7)
    assert np.array_equal(channel.apply(wave, 1), channel.apply(wave, 1))
    residue = [channel.apply(wave, seed) - wave for seed in (1, 2)]
    assert abs(np.corrcoef(residue[0], residue[1])[0, 1]) < 0.3


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), response_db=st.floats(0.1, 12) | st.just(0.0))
def test_device_response_stays_within_its_limits(seed: int, response_db: float) -> None:
    taps = device_response(np.random.default_rng(seed), response_db)
    assert taps.shape == (257,)
    hertz, spectrum = signal.freqz(taps, worN=2048, fs=RATE)
    inside = (hertz >= 100) & (hertz <= 7900)
    level = 20 * np.log10(np.abs(spectrum[inside]))
    assert np.max(np.abs(level)) <= response_db + 0.5
    if response_db > 6:
        assert np.ptp(level) > 2


def test_device_is_minimum_phase() -> None:
    """Minimum phase: all zeros inside the unit circle, so the first tap is the largest contribution."""
    taps = device_response(np.random.default_rng(5), 6.0).astype(np.float64)
    assert np.max(np.abs(np.roots(taps))) < 1.0


def test_the_band_has_the_right_edges() -> None:
    taps = device_response(np.random.default_rng(2), 0.0, narrowband=1.0)
    _, spectrum = signal.freqz(taps, worN=[20.0, 1500.0], fs=RATE)
    assert np.abs(spectrum[1]) == pytest.approx(1, abs=0.05)
    assert np.abs(spectrum[0]) < 0.5


def test_draw_is_a_function_of_the_seed() -> None:
    spec = ChannelSpec.preset("medium")
    one, again, other = draw_channel(3, spec), draw_channel(3, spec), draw_channel(4, spec)
    assert np.array_equal(one.room, again.room)
    assert np.array_equal(one.device, again.device)
    assert (one.codec, one.noise_colour, one.snr_db) == (again.codec, again.noise_colour, again.snr_db)
    assert not np.array_equal(one.device, other.device)
    assert one.snr_db != other.snr_db


def test_drawn_codecs_follow_the_weights() -> None:
    spec = ChannelSpec(rt60=(0.02, 0.03), codecs=(("none", 3.0), ("gsm", 1.0), ("opus", 0.0)))
    drawn = [draw_channel(seed, spec).codec for seed in range(120)]
    assert "opus" not in drawn
    assert 12 <= drawn.count("gsm") <= 48  # 30 expected; six deviations either way would be 2 to 58


def test_presets_and_impossible_settings() -> None:
    assert ChannelSpec.preset("strong").response_db == 12
    assert ChannelSpec.preset("mild").snr_db == (20, 35)
    with pytest.raises(IdemvoxError, match="did you mean 'strong'"):
        ChannelSpec.preset("stong")
    with pytest.raises(IdemvoxError, match="did you mean 'opus'"):
        ChannelSpec(codecs=(("opsu", 1.0),))
    for wrong in (
        {"codecs": (("opus", 0.0),)},
        {"rt60": (0.3, 0.1)},
        {"snr_db": (30, 20)},
        {"narrowband": 2.0},
        {"codecs": (("opus", -1.0),)},
    ):
        with pytest.raises(IdemvoxError):
            ChannelSpec(**wrong)
