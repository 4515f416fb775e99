"""The verifier's verdicts."""

from __future__ import annotations

import io
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from idemvox.audio import recording
from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.read import read, write_wav
from idemvox.audio.recording import open_recording
from idemvox.encoders.base import Encoder
from idemvox.errors import AudioError, IdemvoxError
from idemvox.verification.calibration import Calibration, Term, save_calibration
from idemvox.verification.embed import embed_files, embed_waves
from idemvox.verification.operating import Point
from idemvox.verification.report import Report, store_report
from idemvox.verification.scoring import Scorer
from idemvox.verifier import listening
from idemvox.verifier.listening import listen
from idemvox.verifier.verdict import Limits
from idemvox.verifier.verifier import Verifier


class Mean(Encoder):
    """Mean log-mel spectrum."""

    dim = 40

    def __init__(self):
        super().__init__(FrontEndSettings(normalise="none"))

    def encode(self, features, frames):
        frames = torch.full((len(features),), features.shape[-1]) if frames is None else frames
        valid = (torch.arange(features.shape[-1])[None] < frames[:, None])[:, None]
        pooled = (features * valid).sum(-1) / frames[:, None]
        return pooled - pooled.mean(1, keepdim=True)


def spoken(pitch: float, seconds: float, seed: int = 0, noise: float = 1e-4) -> np.ndarray:
    """Syllables of harmonics, with breath up to 8 kHz and some noise."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * 16_000)) / 16_000
    wave = sum(np.sin(2 * np.pi * n * pitch * time + n) / n for n in range(1, 12))
    wave = wave + 0.05 * rng.standard_normal(len(time))
    return 0.05 * wave * np.abs(np.sin(2 * np.pi * 2 * time)) + noise * rng.standard_normal(len(time))


@pytest.fixture
def voices(tmp_path):
    for name, pitch, seconds in (("low1", 90, 2.0), ("low2", 92, 1.6), ("high", 400, 1.8)):
        write_wav(tmp_path / f"{name}.wav", spoken(pitch, seconds, len(name)))
    return tmp_path


REPORT = Report("calls", 10, 20, 0.0512, 0.8, 0.5, 0.4)


def calibration(threshold: float = 0.0, half: float = 0.0, **other) -> Calibration:
    """LLR = 100 (score - 0.97); a threshold for 1 %, which may lie ``half`` off."""
    points = [
        Point(0.005, threshold + 2 * half + 1, 0.005, 0.001, 0.009, 0.3),
        Point(0.01, threshold, 0.01, 0.006, 0.02, 0.2),
        Point(0.05, threshold - 2 * half - 1, 0.05, 0.03, 0.07, 0.1),
    ]
    if half:
        points[1:1] = [Point(0.008, threshold + half, 0.008, 0.003, 0.01, 0.2)]
        points[3:3] = [Point(0.02, threshold - half, 0.02, 0.01, 0.03, 0.2)]
    known = {"terms": (), "speakers": 40, "points": tuple(points)} | other
    return Calibration(
        -97.0, 100.0, known["terms"], 0.01, "cosine", "calls", 900, 9000, known["speakers"], known["points"]
    )


def test_accepts_and_rejects_at_the_threshold_of_the_calibration(voices):
    verifier = Verifier(Mean(), Scorer(), REPORT, calibration=calibration())
    same = verifier.verify(voices / "low1.wav", voices / "low2.wav")
    other = verifier.verify(voices / "low1.wav", voices / "high.wav")
    assert same.decision == "accept" and same.llr > 0 and other.decision == "reject" and other.llr < 0
    assert same.llr == pytest.approx(100 * same.score - 97)
    assert (
        same.threshold.llr == 0 and same.false_accept_rate == 0.01 and not same.reasons and not same.warnings
    )
    assert same.speech == pytest.approx((1.9, 1.5), abs=0.15)
    words = f"same speaker: LLR {same.llr:.2f} is at or above the threshold 0.00 for 1 % false accepts"
    assert str(same).startswith(words) and "'calls'" in str(same) and str(other).startswith("different")
    assert f"score {same.score:.3f}; {same.speech[0]:.1f} s and {same.speech[1]:.1f} s of speech" in str(same)
    strict = verifier.verify(voices / "low1.wav", voices / "low2.wav", false_accept_rate=0.005)
    assert strict.threshold.llr == 1
    assert verifier.verify(voices / "high.wav", voices / "low1.wav").llr == pytest.approx(other.llr)


def test_a_model_without_calibration_gives_a_score_and_no_decision(voices):
    for report, note in ((None, None), (REPORT, "above 0.800, where the error rates on the trials 'calls'")):
        verdict = Verifier(Mean(), Scorer(), report).verify(voices / "low1.wav", voices / "low2.wav")
        assert verdict.decision == "abstain" and verdict.score > 0.9
        assert verdict.llr is None and verdict.threshold is None and verdict.band is None
        assert verdict.reasons == ("this model is not calibrated: run `idemvox calibrate`",)
        assert str(verdict).startswith("undecided: this model is not calibrated")
        assert (note is None and verdict.note is None) or note in str(verdict)
    below = Report("calls", 10, 20, 0.0512, 0.9999, 0.5, 0.4)
    verdict = Verifier(Mean(), Scorer(), below).verify(voices / "low1.wav", voices / "high.wav")
    assert verdict.note.startswith("below 1.000") and "5.12 %" in verdict.note


def test_abstains_where_the_threshold_is_uncertain(voices):
    """The band holds every threshold whose false-accept rate may be the wanted one."""
    pair = voices / "low1.wav", voices / "low2.wav"
    llr = Verifier(Mean(), Scorer(), calibration=calibration()).verify(*pair).llr
    for off, expected in ((-2.1, "accept"), (-1.9, "abstain"), (1.9, "abstain"), (2.1, "reject")):
        verifier = Verifier(Mean(), Scorer(), calibration=calibration(llr + off, 2))
        verdict = verifier.verify(*pair)
        assert verdict.decision == expected and verdict.band == pytest.approx((llr + off - 2, llr + off + 2))
        if expected == "abstain":
            assert "too near the threshold: that for 1 % false accepts lies between" in str(verdict)
            verifier.limits = Limits(tolerate=frozenset({"uncertain"}))
            tolerated = verifier.verify(*pair)
            assert tolerated.decision == ("accept" if off < 0 else "reject") and tolerated.warnings


def test_a_rate_that_the_calibration_does_not_support_is_no_decision(voices):
    verifier = Verifier(Mean(), Scorer(), calibration=calibration())
    verdict = verifier.verify(voices / "low1.wav", voices / "low2.wav", false_accept_rate=1e-4)
    assert verdict.decision == "abstain" and verdict.llr is not None and verdict.threshold is None
    assert "use a rate of 0.005 or more" in str(verdict)
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(IdemvoxError, match="between 0 and 1"):
            verifier.verify(voices / "low1.wav", voices / "low2.wav", false_accept_rate=rate)
    blind = tuple(replace(point, low=None, high=None) for point in calibration().points)
    verifier.calibration = calibration(speakers=None, points=blind)
    verdict = verifier.verify(voices / "low1.wav", voices / "low2.wav")
    assert verdict.decision == "accept" and "had no speakers" in str(verdict)


def test_a_calibration_may_need_durations_of_speech(voices):
    term = Term("shorter", 3.0, 0.5, -1, 2)
    verifier = Verifier(Mean(), Scorer(), calibration=calibration(terms=(term,)))
    verdict = verifier.verify(voices / "low1.wav", voices / "low2.wav")
    assert verdict.llr == pytest.approx(100 * verdict.score - 97 + 3 * np.log(min(verdict.speech)))


def bad() -> dict[str, tuple[np.ndarray, str]]:
    """Recordings that cannot be judged, each with the reason."""
    time, noise = np.arange(48_000) / 16_000, np.random.default_rng(5).standard_normal(48_000)
    low = spoken(90, 3)
    return {
        "digital silence": (np.zeros(48_000), "is silent"),
        "silence": (3e-5 * noise, "is silent"),
        "a quiet room": (1e-3 * noise, "has no speech: its level hardly changes"),
        "noise": (0.1 * noise, "has no speech"),
        "a tone": (0.3 * np.sin(2 * np.pi * 440 * time), "has no speech"),
        "hum": (0.3 * np.sin(2 * np.pi * 50 * time), "has no speech"),
        "a constant": (np.full(48_000, 0.1), "constant signal"),
        "a tenth of a second": (low[:1600], "only 0.10 s long; at least 1 s of speech"),
        "a word in silence": (
            np.r_[np.zeros(16_000), low[:8000], np.zeros(16_000)],
            "s of speech; at least 1",
        ),
        "nothing": (np.zeros(0), "is empty"),
        "clipped": (np.clip(30 * low, -0.9, 0.9), "heavily clipped"),
        "anti-phase": (np.stack([low, -low], 1), "cancel each other"),
        "telephone": (soxr.resample(soxr.resample(low, 16_000, 8_000), 8_000, 16_000), "nothing above 4 kHz"),
    }


@pytest.mark.parametrize("name", bad())
def test_abstains_with_the_reason(voices, name):
    """Also where the other recording is fine, on either side, and where both are alike."""
    samples, reason = bad()[name]
    verifier = Verifier(Mean(), Scorer(), calibration=calibration())
    for pair in (((samples, 16_000), voices / "low1.wav"), (voices / "low1.wav", (samples, 16_000))):
        verdict = verifier.verify(*pair)
        assert verdict.decision == "abstain" and len(verdict.reasons) == 1, verdict
        assert reason in verdict.reasons[0] and "this recording" in verdict.reasons[0]
        assert (verdict.score is None) == (verdict.llr is None)
    both = verifier.verify((samples, 16_000), (samples, 16_000))
    if name == "telephone":
        assert both.decision == "accept" and both.warnings == ("both recordings are the same audio",)
    else:
        assert len(both.reasons) == 2 and "the second recording" in both.reasons[1]
    if verdict.score is None:
        with pytest.raises(AudioError, match=f"cannot embed this recording: it .*({reason[:9]}|too short)"):
            verifier.embed((samples, 16_000))


def test_reasons_that_may_be_tolerated_become_warnings(voices):
    for name, kind in (("clipped", "clipping"), ("anti-phase", "channels"), ("telephone", "bandwidth")):
        samples, reason = bad()[name]
        limits = Limits(tolerate=frozenset({kind}))
        verifier = Verifier(Mean(), Scorer(), calibration=calibration(-1000), limits=limits)
        verdict = verifier.verify((samples, 16_000), voices / "low1.wav")
        assert verdict.decision == "accept" and len(verdict.warnings) == 1 and reason in verdict.warnings[0]
        assert f"warning: {verdict.warnings[0]}" in str(verdict)
    patient = Verifier(Mean(), Scorer(), calibration=calibration(-1000), limits=Limits(min_speech=0.2))
    assert patient.verify((bad()["a word in silence"][0], 16_000), voices / "low1.wav").decision == "accept"
    with pytest.raises(IdemvoxError, match="did you mean 'clipping'"):
        Limits(tolerate=frozenset({"cliping"}))


@pytest.mark.parametrize("gain", [0.03, 1, 3])
def test_silence_or_noise_around_the_words_changes_nothing(gain):
    """20 s before, between and after two phrases; a recording without them has the same embedding, nearly."""
    rng = np.random.default_rng(0)
    phrases = [gain * spoken(90, 3), gain * spoken(90, 2, 1)]
    other = gain * spoken(91, 4, 2), 16_000
    verifier = Verifier(Mean(), Scorer(), calibration=calibration())
    alone = verifier.verify((np.concatenate(phrases), 16_000), other)
    for level in (0, 3e-5, 1e-4):
        gap = gain * level * rng.standard_normal(20 * 16_000)
        spread = verifier.verify((np.r_[gap, phrases[0], gap, phrases[1], gap], 16_000), other)
        assert spread.score == pytest.approx(alone.score, abs=2e-3) and spread.decision == alone.decision
        assert spread.speech[0] == pytest.approx(alone.speech[0], abs=0.7)


def test_scores_as_the_model_was_trained_to(voices):
    verifier = Verifier(Mean(), Scorer("euclidean"))
    for other in ("low2", "high"):
        apart = verifier.embed(voices / "low1.wav") - verifier.embed(voices / f"{other}.wav")
        verdict = verifier.verify(voices / "low1.wav", voices / f"{other}.wav")
        assert verdict.score == pytest.approx(-float((apart**2).sum()), rel=1e-5)


def test_of_a_recording_that_is_not_whole_or_not_sound_the_verifier_says_so(voices, caplog):
    verifier = Verifier(Mean(), Scorer())
    cut = voices / "low1.wav"
    cut.write_bytes(cut.read_bytes()[:50_000])
    assert verifier.verify(cut, voices / "low2.wav").score > 0.8
    assert "low1.wav is truncated: its header says 2.00 s" in caplog.text
    soundfile.write(voices / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(IdemvoxError, match=r"nan\.wav: it has NaN or infinite samples"):
        verifier.verify(voices / "nan.wav", voices / "low2.wav")


def test_embedding_is_the_encoders_of_the_speech_alone(tmp_path, monkeypatch):
    """Up to 60 s exactly that of `embed_files` on the trimmed audio; beyond, the mean of windows."""
    encoder = Mean()
    verifier = Verifier(encoder, Scorer())
    wave = np.r_[np.zeros(32_000), spoken(90, 12), np.zeros(20_000), spoken(90, 5), np.zeros(9_000)]
    wave = wave.astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    with open_recording((wave, 16_000)) as source:
        spans = listen(source).spans
    assert spans / 16_000 == pytest.approx(np.array([[2, 14], [15.25, 20.25]]), abs=0.2)
    trimmed = np.concatenate([wave[start:end] for start, end in spans])
    soundfile.write(tmp_path / "trimmed.wav", trimmed, 16_000, subtype="FLOAT")
    (expected,) = embed_files(encoder, [tmp_path / "trimmed.wav"]).matrix
    vector = verifier.embed(str(tmp_path / "a.wav"))
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, expected)
    monkeypatch.setattr(listening, "WINDOW", 5.0)
    cuts = [len(trimmed) * n // 4 for n in range(5)]
    parts = [embed_waves(encoder, [trimmed[a:b]])[0] for a, b in itertools.pairwise(cuts)]
    expected = np.mean(parts, axis=0, dtype=np.float64)
    np.testing.assert_allclose(verifier.embed(tmp_path / "a.wav"), expected, rtol=1e-5)
    monkeypatch.setattr(recording, "SHORT", 3)
    monkeypatch.setattr(recording, "BLOCK", 12_345)
    np.testing.assert_allclose(verifier.embed(tmp_path / "a.wav"), expected, rtol=1e-5)


def test_a_path_a_file_bytes_samples_and_a_tensor_are_one_recording(voices):
    """Of two channels at another rate, in 16 bits."""
    verifier = Verifier(Mean(), Scorer())
    mono = soxr.resample(spoken(90, 2), 16_000, 44_100)
    samples = np.rint(2**15 * np.stack([mono, 0.5 * mono], 1)).astype(np.int16)
    path = voices / "call.wav"
    soundfile.write(path, samples, 44_100)
    expected = verifier.embed(path)
    with path.open("rb") as file:
        forms = [str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes()), (samples, 44_100)]
        for form in [*forms, (torch.from_numpy(samples.T.copy()), 44_100)]:
            np.testing.assert_array_equal(verifier.embed(form), expected)
    verdict = verifier.verify((samples / 2**15, 44_100), memoryview(path.read_bytes()))
    assert verdict.score == pytest.approx(1) and "both recordings are the same audio" in verdict.warnings


CORPORA = Path(os.environ.get("IDEMVOX_CORPORA", Path(__file__).parents[2] / "../shared/corpora"))


@pytest.mark.skipif(not CORPORA.is_dir(), reason="real speech is not here: set IDEMVOX_CORPORA")
def test_real_speech_is_judged_alike_with_20_seconds_of_silence_before_it():
    verifier = Verifier(Mean(), Scorer())
    rng = np.random.default_rng(0)
    files = sorted((CORPORA / "speech/librispeech").rglob("*.opus"))
    pairs = list(zip(files[::40], files[20::40], strict=False))[:6]
    assert len(pairs) == 6
    for first, second in pairs:
        wave = read(first)
        alone = verifier.verify((wave, 16_000), second)
        assert alone.reasons == ("this model is not calibrated: run `idemvox calibrate`",), first
        for gap in (np.zeros(320_000, np.float32), 1e-4 * rng.standard_normal(320_000)):
            later = verifier.verify((np.r_[gap, wave].astype(np.float32), 16_000), second)
            assert later.score == pytest.approx(alone.score, abs=2e-3), first
            assert later.reasons == alone.reasons


class Meeting(Mean):
    """Its first pass waits for the second one to begin; the second for the first caller to have left."""

    def __init__(self):
        super().__init__()
        self.began, self.first_left = [threading.Event(), threading.Event()], threading.Event()
        self.modes = []

    def encode(self, features, frames):
        number = sum(event.is_set() for event in self.began)
        self.began[number].set()
        assert (self.first_left if number else self.began[1]).wait(20)
        self.modes.append(self.training)
        return super().encode(features, frames)


def test_two_threads_leave_the_encoder_in_evaluation_mode(voices):
    """The one that leaves first does not put an encoder back into training mode under the other."""
    encoder = Meeting().train()
    verifier = Verifier(encoder, Scorer())

    def first():
        vector = verifier.embed(voices / "low1.wav")
        encoder.first_left.set()
        return vector

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert encoder.began[0].wait(20)
        other = pool.submit(verifier.embed, voices / "low1.wav")
        np.testing.assert_array_equal(one.result(), other.result())
    assert encoder.modes == [False, False] and not encoder.training


def test_load_takes_the_report_and_the_calibration_of_the_folder(tmp_path):
    model = pytest.importorskip("idemvox.model")
    from idemvox.recipe import Part
    from idemvox.registry import ENCODERS

    part = Part(name="fast_resnet34")
    torch.manual_seed(0)
    encoder = model.build_encoder(part, {})
    assert isinstance(encoder, ENCODERS["fast_resnet34"])
    model.save_model(tmp_path / "run" / "model", encoder, part, {}, {"recipe": "tiny"}, scoring="euclidean")
    assert Verifier.load(tmp_path / "run").report is None
    store_report(tmp_path / "run" / "model", REPORT)
    verifier = Verifier.load(tmp_path / "run")
    assert verifier.report == REPORT and verifier.scorer == Scorer("euclidean")
    assert verifier.calibration is None
    fitted = calibration(speakers=None)
    save_calibration(tmp_path / "run" / "model", replace(fitted, scoring=str(verifier.scorer)))
    verifier = Verifier.load(tmp_path / "run")
    assert verifier.calibration is not None and verifier.calibration.points == fitted.points
    write_wav(tmp_path / "a.wav", spoken(90, 1.5))
    np.testing.assert_allclose(
        verifier.embed(tmp_path / "a.wav"), Verifier(encoder, Scorer()).embed(tmp_path / "a.wav"), rtol=1e-6
    )
