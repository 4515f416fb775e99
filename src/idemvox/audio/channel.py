"""Simulated recordings: one room, device, codec and noise floor for all utterances of a recording."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy  # which imports scipy.signal on first use; that takes a while
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.interpolate import PchipInterpolator

from idemvox.arrays import Wave
from idemvox.audio.read import SAMPLE_RATE
from idemvox.audio.rooms import simulate_room
from idemvox.errors import RecipeError, unknown_name

__all__ = ["CODECS", "Channel", "ChannelSpec", "active_rms", "device_response", "draw_channel"]


TAPS = 257
POINTS = 10  # control points of a device's response, evenly spaced in mel from 100 Hz to 8 kHz
FRAME = 320  # samples, 20 ms: the frames of speech-level measurement
CODEC_RMS = 0.05  # -26 dB below full scale, the level at which telephone codecs are specified (ITU-T P.56)
MARGIN = 0.99  # highest peak


def _g711(wave: Wave) -> Wave:
    """8 kHz, 8-bit mu-law (ITU-T G.711)."""
    narrow = np.clip(soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE // 2), -1, 1)
    return _widen(_through(narrow, SAMPLE_RATE // 2, "WAV", "ULAW"), len(wave))


def _gsm(wave: Wave) -> Wave:
    """8 kHz, GSM 06.10 full rate, 13 kbit/s."""
    narrow = np.clip(soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE // 2), -1, 1)
    return _widen(_through(narrow, SAMPLE_RATE // 2, "WAV", "GSM610"), len(wave))


def _opus(wave: Wave) -> Wave:
    """16 kHz, Opus at about 20 kbit/s."""
    return _through(wave, SAMPLE_RATE, "OGG", "OPUS", 0.95)


def _mp3(wave: Wave) -> Wave:
    """16 kHz, MPEG-2 layer III at about 20 kbit/s."""
    return _through(wave, SAMPLE_RATE, "MP3", "MPEG_LAYER_III", 0.9)


def _widen(narrow: Wave, samples: int) -> Wave:
    wide: Wave = soxr.resample(narrow, SAMPLE_RATE // 2, SAMPLE_RATE)
    return _fit(wide, samples)


def _fit(wave: Wave, samples: int) -> Wave:
    return np.pad(wave[:samples], (0, max(0, samples - len(wave))))


def _through(wave: Wave, rate: int, kind: str, subtype: str, compression: float | None = None) -> Wave:
    """Encode and decode in memory; libsndfile itself removes the delay of each of these codecs."""
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, wave, rate, subtype, format=kind, compression_level=compression)
        buffer.seek(0)
        decoded, _ = soundfile.read(buffer, dtype="float32")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise RecipeError(
            f"this libsndfile ({soundfile.__libsndfile_version__}) cannot write {kind} {subtype} ({error}); "
            "leave that codec out of the channel's codecs or upgrade soundfile"
        ) from error
    return _fit(np.asarray(decoded, dtype=np.float32), len(wave))


CODECS: dict[str, Callable[[Wave], Wave]] = {
    "none": lambda wave: wave,
    "g711": _g711,
    "gsm": _gsm,
    "opus": _opus,
    "mp3": _mp3,
}


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """How much simulated recordings may vary.

    Attributes:
        response_db: a device's response stays within +-this, from 100 Hz to 8 kHz.
        rt60: shortest and longest reverberation time, seconds.
        snr_db: lowest and highest ratio of speech to noise floor, dB.
        codecs: names and weights; the weights need not add up to 1.
        narrowband: fraction of devices that also have band edges: low cut 50-300 Hz, high cut 3.4-8 kHz.
    """

    response_db: float = 6.0
    rt60: tuple[float, float] = (0.1, 0.4)
    snr_db: tuple[float, float] = (15.0, 30.0)
    codecs: tuple[tuple[str, float], ...] = (("none", 0.5), ("mp3", 0.3), ("g711", 0.2))
    narrowband: float = 0.1

    def __post_init__(self) -> None:
        """Refuse settings that no channel can be drawn from."""
        for name, weight in self.codecs:
            if name not in CODECS:
                raise unknown_name("codec", name, CODECS)
            if not weight >= 0:
                raise RecipeError(f"codec {name} has weight {weight}; weights must be 0 or more")
        if not sum(weight for _, weight in self.codecs) > 0:
            raise RecipeError("no codec has a weight above 0; give at least one, for example ('none', 1)")
        if not 0 < self.rt60[0] <= self.rt60[1]:
            raise RecipeError(f"rt60 must be two times with 0 < low <= high, not {self.rt60}")
        if not self.snr_db[0] <= self.snr_db[1]:
            raise RecipeError(f"snr_db must be low <= high, not {self.snr_db}")
        if not (self.response_db >= 0 and 0 <= self.narrowband <= 1):
            raise RecipeError("response_db must be 0 or more, and narrowband from 0 to 1")

    @classmethod
    def preset(cls, strength: str) -> Self:
        """Return the spec called ``mild``, ``medium`` (the defaults) or ``strong``."""
        presets = {
            "mild": cls(4.0, (0.05, 0.25), (20.0, 35.0), (("none", 0.5), ("mp3", 0.5)), 0.0),
            "medium": cls(),
            "strong": cls(12.0, (0.2, 0.7), (8.0, 20.0), tuple((name, 1.0) for name in CODECS), 0.25),
        }
        if strength not in presets:
            raise unknown_name("channel strength", strength, presets)
        return presets[strength]


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One simulated recording's fixed properties; ``apply`` it to each utterance made in it.

    Attributes:
        room: impulse response at 16 kHz, direct path at sample 0.
        device: impulse response at 16 kHz, minimum phase.
        codec: a name in ``CODECS``.
        noise_colour: exponent of the noise floor's power spectrum: 0 white, -1 pink, -2 brown.
        snr_db: active speech level over noise level, dB.
        seed: of its noise, so that channels have different noise.
    """

    room: Wave = field(repr=False)
    device: Wave = field(repr=False)
    codec: str
    noise_colour: float
    snr_db: float
    seed: int

    def apply(self, wave: Wave, seed: int) -> Wave:
        """Return ``wave`` as recorded through this channel: same length, same RMS, aligned within 1 ms.

        Room, then device, then noise floor, then codec, then level. The noise is a function of
        ``(self.seed, seed)``: give each utterance its own seed. Silence stays silent. If the original level
        would clip, the level is lowered.

        Args:
            wave: 16-kHz mono, (samples,), nominally within [-1, 1].
            seed: of the utterance, 0 or more.
        """
        level = _rms(wave)
        if not level > 0:
            return np.zeros_like(wave)
        heard: NDArray[np.floating] = scipy.signal.fftconvolve(
            wave, scipy.signal.fftconvolve(self.room, self.device)
        )[: len(wave)]
        rng = np.random.default_rng([self.seed, seed])
        floor = _coloured_noise(rng, len(wave), self.noise_colour)
        heard = heard + floor * active_rms(heard) * 10 ** (-self.snr_db / 20)
        if self.codec != "none":
            heard = CODECS[self.codec](_at_level(heard, CODEC_RMS))
        return _at_level(heard, level)


def draw_channel(seed: int, spec: ChannelSpec) -> Channel:
    """Return the simulated recording of ``seed``.

    Each property has its own random stream, so a seed's room does not change when the spec's codecs do.
    """
    rooms, device, codec, noise = (np.random.default_rng([seed, part]) for part in range(4))
    names = [name for name, _ in spec.codecs]
    weights = np.array([weight for _, weight in spec.codecs])
    return Channel(
        room=simulate_room(rooms, spec.rt60),
        device=device_response(device, spec.response_db, spec.narrowband),
        codec=names[int(codec.choice(len(names), p=weights / weights.sum()))],
        noise_colour=float(noise.uniform(-2, 0)),
        snr_db=float(noise.uniform(*spec.snr_db)),
        seed=seed,
    )


def device_response(rng: np.random.Generator, response_db: float, narrowband: float = 0.0) -> Wave:
    """Return a random smooth minimum-phase filter of 257 taps at 16 kHz, within +-``response_db``.

    Control points are evenly spaced in mel, with monotone cubic interpolation, which never overshoots them.
    With probability ``narrowband`` it also has band edges of 24 dB per octave, at 50-300 Hz and 3.4-8 kHz.
    """
    grid = np.linspace(0, SAMPLE_RATE / 2, 2049)
    places = np.linspace(_mel(100.0), _mel(8000.0), POINTS)
    levels = rng.uniform(-response_db, response_db, POINTS)
    curve = PchipInterpolator(places, levels)(np.clip(_mel(grid), places[0], places[-1]))
    edged, low, high = rng.uniform() < narrowband, rng.uniform(50, 300), rng.uniform(3400, 8000)
    if edged:
        steep = 8  # 2 x order 4, Butterworth's magnitude
        curve = curve - 10 * np.log10(1 + (low / np.maximum(grid, 1.0)) ** steep)
        curve = curve - 10 * np.log10(1 + (grid / high) ** steep)
    return _minimum_phase(np.maximum(curve, -80.0))


def _mel(hertz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _minimum_phase(level_db: NDArray[np.float64]) -> Wave:
    """Return ``TAPS`` taps with this magnitude (dB, evenly from 0 Hz to 8 kHz), by folding the cepstrum."""
    cepstrum = np.fft.irfft(level_db * np.log(10) / 20)
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2
    cepstrum[half + 1 :] = 0
    taps = np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:TAPS]
    taps[TAPS // 2 :] *= np.hanning(TAPS)[TAPS // 2 :]
    return taps.astype(np.float32)


def _coloured_noise(rng: np.random.Generator, samples: int, colour: float) -> NDArray[np.float64]:
    """Return Gaussian noise of RMS 1; from 50 Hz up its power varies as frequency ** ``colour``."""
    length = next_fast_len(samples, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hertz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE)
    shape = (np.maximum(hertz, 50.0) / 50.0) ** (colour / 2)
    shape[0] = 0.0
    noise = np.fft.irfft(spectrum * shape, length)[:samples]
    return np.asarray(noise / max(_rms(noise), 1e-12))


def _rms(wave: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


def active_rms(wave: NDArray[np.floating]) -> float:
    """Return the RMS over the 20-ms frames within 30 dB of the loudest tenth: the level of speech alone."""
    if len(wave) < FRAME:
        return _rms(wave)
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = np.mean(frames**2, axis=1)
    return float(np.sqrt(np.mean(power[power >= np.quantile(power, 0.9) * 1e-3])))


def _at_level(wave: NDArray[np.floating], level: float) -> Wave:
    """Return ``wave`` at RMS ``level``, or as close to it as the peak allows."""
    gain = level / max(_rms(wave), 1e-12)
    peak = float(np.max(np.abs(wave)))
    return np.asarray(wave * min(gain, MARGIN / max(peak, 1e-12)), dtype=np.float32)
