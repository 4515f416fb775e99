"""Synthetic voices, if real ones are not available: pulses and noise through formants (Fant, 1960).

Results on them show that the software works; they say nothing about real speakers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from idemvox.arrays import Wave
from idemvox.audio.channel import active_rms
from idemvox.audio.read import SAMPLE_RATE, probe, write_wav
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.simulated.recordings import finished
from idemvox.draws import stable_seed
from idemvox.errors import CorpusError
from idemvox.files import write_json
from idemvox.processes import process_pool

__all__ = ["SyntheticVoice", "draw_voice", "speak", "synthetic_voices"]

Track = NDArray[np.float64]

VERSION = 1
HOP = SAMPLE_RATE // 100  # the filters change every 10 ms
LEVEL = 0.05  # RMS, 26 dB below full scale

# F1, F2, F3 in Hz of ten vowels spoken by men (Peterson & Barney, JASA 24, 1952, table II)
VOWELS = np.array(
    [
        [270, 2290, 3010],
        [390, 1990, 2550],
        [530, 1840, 2480],
        [660, 1720, 2410],
        [730, 1090, 2440],
        [570, 840, 2410],
        [440, 1020, 2240],
        [300, 870, 2240],
        [640, 1190, 2390],
        [490, 1350, 1690],
    ],
    dtype=np.float64,
)
FRICATIVES = np.array([2000.0, 2800.0, 4200.0, 5600.0])  # Hz, centre of the noise for men


@dataclass(frozen=True, slots=True)
class SyntheticVoice:
    """The fixed parameters of a synthetic voice.

    Attributes:
        pitch: mean fundamental frequency, Hz.
        liveliness: standard deviation of the pitch, in octaves.
        scale: factor of all formants; 1 is men's mean, higher means a shorter vocal tract.
        upper: fourth and fifth formant before scaling, Hz.
        bandwidth: bandwidth of the formants, relative to typical values.
        dull: pole of the glottal low pass, 0.7 (bright) to 0.95 (dull).
        breath: level of breath noise relative to the pulses.
        jitter: standard deviation of a period, relative.
        shimmer: standard deviation of a pulse's height, relative.
        rate: syllables per second.
    """

    pitch: float
    liveliness: float
    scale: float
    upper: tuple[float, float]
    bandwidth: float
    dull: float
    breath: float
    jitter: float
    shimmer: float
    rate: float


def draw_voice(rng: np.random.Generator) -> SyntheticVoice:
    """Return a random voice; high voices tend to have short vocal tracts, as in people."""
    pitch = 85.0 * 2 ** rng.uniform(0, 1.7)
    expected = 0.9 + 0.3 * np.log2(pitch / 85.0) / 1.7
    return SyntheticVoice(
        pitch=float(pitch),
        liveliness=float(rng.uniform(0.05, 0.2)),
        scale=float(expected + rng.uniform(-0.08, 0.08)),
        upper=(float(rng.uniform(3200, 3700)), float(rng.uniform(4100, 4800))),
        bandwidth=float(rng.uniform(0.7, 1.5)),
        dull=float(rng.uniform(0.7, 0.95)),
        breath=float(10 ** rng.uniform(-2.5, -1.3)),
        jitter=float(rng.uniform(0.003, 0.02)),
        shimmer=float(rng.uniform(0.02, 0.12)),
        rate=float(rng.uniform(3.0, 5.5)),
    )


def speak(voice: SyntheticVoice, rng: np.random.Generator, seconds: float) -> Wave:
    """Return ``seconds`` of the voice babbling: random vowels, fricatives and pauses, at 16 kHz."""
    frames = round(seconds * SAMPLE_RATE / HOP)
    formants, loudness, friction, centre = _score(voice, rng, frames)
    samples = frames * HOP
    times, marks = np.arange(samples), np.arange(frames) * HOP
    pitch = _pitch(voice, rng, frames)
    source = _pulses(voice, rng, np.interp(times, marks, pitch))
    source += voice.breath * rng.standard_normal(samples)
    source = signal.lfilter([1 - voice.dull], [1, -voice.dull], source) * np.interp(times, marks, loudness)
    wave = _through_formants(voice, source, formants)
    wave = wave / max(active_rms(wave), 1e-9)
    wave += _friction(rng, np.interp(times, marks, friction), centre)
    wave *= LEVEL / max(active_rms(wave), 1e-9)
    return np.asarray(np.clip(wave, -0.99, 0.99), dtype=np.float32)


def _score(
    voice: SyntheticVoice, rng: np.random.Generator, frames: int
) -> tuple[Track, Track, Track, NDArray[np.float64]]:
    """Return formants (F, 3), loudness (F,), friction (F,) and its centre (F,) of random syllables."""
    formants, centre = np.empty((frames, 3)), np.empty(frames)
    loudness, friction = np.zeros(frames), np.zeros(frames)
    at = 0
    while at < frames:
        if rng.uniform() < 0.12:  # between words
            at, before = at + int(rng.integers(8, 25)), at
            formants[before:at], centre[before:at] = VOWELS[8], FRICATIVES[0]
            continue
        length = max(10, round(100 / voice.rate * rng.uniform(0.7, 1.3)))
        onset = int(rng.integers(4, 10)) if rng.uniform() < 0.6 else 0
        here = slice(at, min(at + length, frames))
        steps = np.arange(here.stop - here.start)
        formants[here] = VOWELS[rng.integers(len(VOWELS))] * rng.normal(1, 0.03, 3)
        centre[here] = FRICATIVES[rng.integers(len(FRICATIVES))]
        friction[here] = rng.uniform(0.1, 0.5) * (steps < onset)
        voiced = np.clip((steps - onset) / 4, 0, 1) * np.clip((length - steps) / 5, 0, 1)
        loudness[here] = rng.uniform(0.6, 1.0) * voiced
        at += length
    kernel = np.hanning(11)[1:-1] / np.hanning(11).sum()
    padded = np.pad(formants, ((4, 4), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(padded[:, i], kernel, "valid") for i in range(3)], axis=1)
    return smooth * voice.scale, loudness, friction, centre * voice.scale**0.5


def _pitch(voice: SyntheticVoice, rng: np.random.Generator, frames: int) -> Track:
    """Return (F,) the fundamental frequency: slow random movement around the voice's mean, falling a bit."""
    knots = rng.normal(0, voice.liveliness, frames // 20 + 2)
    octaves = np.interp(np.arange(frames), np.arange(len(knots)) * 20, knots)
    return np.asarray(voice.pitch * 2 ** (octaves + np.linspace(0.08, -0.08, frames)))


def _pulses(voice: SyntheticVoice, rng: np.random.Generator, pitch: Track) -> Track:
    """Return (T,) glottal pulses, one per period, each split between the two nearest samples."""
    source = np.zeros(len(pitch) + 1)
    at = float(rng.uniform(0, 100))
    while at < len(pitch) - 1:
        left, part = int(at), at % 1
        height = (1 + voice.shimmer * rng.standard_normal()) * np.sqrt(SAMPLE_RATE / pitch[left])
        source[left] += height * (1 - part)
        source[left + 1] += height * part
        at += SAMPLE_RATE / pitch[left] * max(0.5, 1 + voice.jitter * rng.standard_normal())
    return source[:-1]


def _through_formants(voice: SyntheticVoice, source: Track, formants: Track) -> Track:
    """Return the source filtered by five resonators in series, retuned every 10 ms, and radiated."""
    upper = np.broadcast_to(np.array(voice.upper) * voice.scale, (len(formants), 2))
    hertz = np.minimum(np.concatenate([formants, upper], axis=1), 7000.0)  # (F, 5)
    width = voice.bandwidth * np.array([60.0, 80.0, 120.0, 180.0, 250.0])
    radius = np.exp(-np.pi * width / SAMPLE_RATE)  # (5,)
    poles = -2 * radius * np.cos(2 * np.pi * hertz / SAMPLE_RATE)  # (F, 5)
    sections = np.zeros((len(formants), 5, 6))
    sections[:, :, 0] = 1 + poles + radius**2  # gain 1 at 0 Hz
    sections[:, :, 3], sections[:, :, 4], sections[:, :, 5] = 1, poles, radius**2
    state = np.zeros((5, 2))
    wave = np.empty_like(source)
    for frame, section in enumerate(sections):
        here = slice(frame * HOP, (frame + 1) * HOP)
        wave[here], state = signal.sosfilt(section, source[here], zi=state)
    return np.diff(wave, prepend=0.0)


def _friction(rng: np.random.Generator, loudness: Track, centre: Track) -> Track:
    """Return (T,) noise around each frame's centre frequency, with the given loudness."""
    noise = rng.standard_normal(len(loudness))
    wave = np.zeros_like(noise)
    for hertz in np.unique(centre):
        band = signal.butter(
            2, [0.75 * hertz, min(1.3 * hertz, 7800.0)], "bandpass", fs=SAMPLE_RATE, output="sos"
        )
        wave += np.repeat(centre == hertz, HOP) * signal.sosfilt(band, noise)
    return wave * loudness


def synthetic_voices(out: Path, voices: int, utterances: int, seed: int, workers: int = 2) -> Manifest:
    """Write ``utterances`` of 3-5 s for each of ``voices`` synthetic voices, and their manifest.

    Speakers are called ``synthetic-00`` and so on. The folder also gets ``synthetic.json``. A complete folder
    is returned unchanged; an interrupted run resumes.

    Raises:
        CorpusError: a count is below 1, or the folder holds something else.
    """
    out = Path(out)
    if min(voices, utterances, workers) < 1:
        raise CorpusError("voices, utterances and workers must be 1 or more")
    settings = {"version": VERSION, "voices": voices, "utterances": utterances, "seed": seed}
    existing = finished(out, "synthetic.json", settings)
    if existing is not None:
        return existing
    write_json(out / "synthetic.json", settings)
    tasks = [(out, number, utterances, seed) for number in range(voices)]
    if workers == 1:
        results = [_voice(*task) for task in tasks]
    else:
        with process_pool(min(workers, voices)) as pool:
            results = list(pool.map(_voice, *zip(*tasks, strict=True)))
    save_manifest(Manifest([row for rows in results for row in rows], out), out / "manifest.csv")
    return load_manifest(out / "manifest.csv")


def _voice(out: Path, number: int, utterances: int, seed: int) -> list[Utterance]:
    """Write one voice's missing utterances; return the rows of all."""
    voice = draw_voice(np.random.default_rng(stable_seed("synthetic", seed, number)))
    speaker = f"synthetic-{number:02}"
    rows = []
    for index in range(utterances):
        name = f"{speaker}/{index:03}"
        path = f"{name}.wav"
        if not (out / path).exists():
            rng = np.random.default_rng(stable_seed("synthetic", seed, number, index))
            write_wav(out / path, speak(voice, rng, rng.uniform(3, 5)))
        rows.append(Utterance(name, path, probe(out / path).seconds, SAMPLE_RATE, speaker))
    return rows
