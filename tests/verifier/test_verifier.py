"""The verifier's verdicts."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.read import write_wav
from idemvox.encoders.base import Encoder
from idemvox.errors import IdemvoxError
from idemvox.verification.embed import embed_files
from idemvox.verification.report import Report, store_report
from idemvox.verification.scoring import Scorer
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


@pytest.fixture
def tones(tmp_path):
    rng = np.random.default_rng(0)
    for name, pitch, seconds in (("low1", 300, 1.0), ("low2", 300, 0.7), ("high", 3000, 0.8)):
        time = np.arange(int(seconds * 16_000)) / 16_000
        tone = np.sin(2 * np.pi * pitch * time) + 0.01 * rng.normal(size=len(time))
        write_wav(tmp_path / f"{name}.wav", 0.3 * tone)
    return tmp_path


REPORT = Report("calls", 10, 20, 0.0512, 0.8, 0.5, 0.4)


def test_verdict_at_the_threshold_of_the_report(tones):
    verifier = Verifier(Mean(), Scorer(), REPORT)
    same = verifier.verify(tones / "low1.wav", tones / "low2.wav")
    other = verifier.verify(tones / "low1.wav", tones / "high.wav")
    assert same.same is True and same.score > 0.8 and other.same is False and other.score < 0.8
    assert (same.threshold, same.trials, same.eer) == (0.8, "calls", 0.0512)
    assert str(same).startswith(f"same speaker: score {same.score:.3f} is at or above the threshold 0.800")
    assert "'calls'" in str(other) and "5.12 %" in str(other) and str(other).startswith("different speakers")
    assert verifier.verify(tones / "low1.wav", tones / "low1.wav").score == pytest.approx(1)
    assert verifier.verify(tones / "high.wav", tones / "low1.wav").score == pytest.approx(other.score)


def test_scores_as_the_model_was_trained_to(tones):
    verifier = Verifier(Mean(), Scorer("euclidean"), Report("calls", 10, 20, 0.0512, -20.0, 0.5, 0.4))
    for other, same in (("low2", True), ("high", False)):
        apart = verifier.embed(tones / "low1.wav") - verifier.embed(tones / f"{other}.wav")
        verdict = verifier.verify(tones / "low1.wav", tones / f"{other}.wav")
        assert verdict.score == pytest.approx(-float((apart**2).sum()), rel=1e-5) and verdict.same == same


def test_of_a_recording_that_is_not_whole_or_not_sound_the_verifier_says_so(tones, caplog):
    verifier = Verifier(Mean(), Scorer())
    cut = tones / "low1.wav"
    cut.write_bytes(cut.read_bytes()[:20_000])
    assert verifier.verify(cut, tones / "low2.wav").score > 0.8
    assert "low1.wav is truncated: its header says 1.00 s" in caplog.text
    soundfile.write(tones / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(IdemvoxError, match=r"nan\.wav: it has NaN or infinite samples"):
        verifier.verify(tones / "nan.wav", tones / "low2.wav")
    low, _ = soundfile.read(tones / "low2.wav")
    soundfile.write(tones / "opposite.wav", np.stack([low, -low], 1), 16_000)
    assert verifier.verify(tones / "opposite.wav", tones / "low2.wav").score == pytest.approx(1, abs=1e-3)


def test_no_report_no_verdict(tones):
    verdict = Verifier(Mean(), Scorer()).verify(tones / "low1.wav", tones / "low2.wav")
    assert verdict.same is None and verdict.threshold is None
    assert "no verdict" in str(verdict) and "idemvox evaluate" in str(verdict)


def test_embedding_is_the_encoders(tones):
    encoder = Mean()
    vector = Verifier(encoder, Scorer()).embed(str(tones / "high.wav"))
    assert vector.shape == (40,) and vector.dtype == np.float32
    (expected,) = embed_files(encoder, [tones / "high.wav"]).matrix
    np.testing.assert_array_equal(vector, expected)


def test_a_path_a_file_bytes_and_samples_are_one_recording(tones):
    """Of two channels at another rate, in 16 bits."""
    verifier = Verifier(Mean(), Scorer(), REPORT)
    samples = np.random.default_rng(1).integers(-9000, 9000, (30_000, 2), dtype=np.int16)
    path = tones / "call.wav"
    soundfile.write(path, samples, 44_100)
    expected = verifier.embed(path)
    with path.open("rb") as file:
        forms = [str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes()), (samples, 44_100)]
        for form in forms:
            np.testing.assert_array_equal(verifier.embed(form), expected)
    verdict = verifier.verify((samples / 2**15, 44_100), memoryview(path.read_bytes()))
    assert verdict.same and verdict.score == pytest.approx(1)


def test_too_short_a_recording_is_named(tones):
    verifier = Verifier(Mean(), Scorer())
    write_wav(tones / "short.wav", np.zeros(100))
    with pytest.raises(
        IdemvoxError, match=r"short\.wav: 100 samples at 16 kHz are too few.*longer recording"
    ):
        verifier.embed(tones / "short.wav")
    with pytest.raises(IdemvoxError, match="this recording: 100 samples"):
        verifier.embed((np.zeros(100), 16_000))


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


def test_two_threads_leave_the_encoder_in_evaluation_mode(tones):
    """The one that leaves first does not put an encoder back into training mode under the other."""
    encoder = Meeting().train()
    verifier = Verifier(encoder, Scorer())

    def first():
        vector = verifier.embed(tones / "low1.wav")
        encoder.first_left.set()
        return vector

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first)
        assert encoder.began[0].wait(20)
        other = pool.submit(verifier.embed, tones / "low1.wav")
        np.testing.assert_array_equal(one.result(), other.result())
    assert encoder.modes == [False, False] and not encoder.training


def test_load_takes_the_report_of_the_folder(tmp_path):
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
    wave = np.random.default_rng(0).normal(size=8000) * 0.1
    write_wav(tmp_path / "a.wav", wave)
    np.testing.assert_allclose(
        verifier.embed(tmp_path / "a.wav"), Verifier(encoder, Scorer()).embed(tmp_path / "a.wav"), rtol=1e-6
    )
