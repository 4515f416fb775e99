"""The verifier enrols and identifies: what it stores of a recording, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from idemvox.audio.frontend import FrontEndSettings
from idemvox.audio.read import read, write_wav
from idemvox.encoders.base import Encoder
from idemvox.errors import AudioError, StoreError
from idemvox.verification.calibration import Calibration
from idemvox.verification.scoring import Scorer
from idemvox.verifier.opening import open_store
from idemvox.verifier.sqlite import SqliteStore
from idemvox.verifier.verdict import Limits
from idemvox.verifier.verifier import Verifier


class Mean(Encoder):
    """Mean log-mel spectrum."""

    dim = 40

    def __init__(self):
        super().__init__(FrontEndSettings(normalise="none"))

    def encode(self, features, frames):
        pooled = features.mean(-1)  # of one recording at a time
        return pooled - pooled.mean(1, keepdim=True)


@pytest.fixture
def voices(corpus):
    return corpus.labelled.parent


@pytest.fixture
def store(tmp_path):
    with SqliteStore(tmp_path / "s.sqlite", "m") as opened:
        yield opened


def test_the_facts_of_a_recording_are_stored(store, voices):
    verifier = Verifier(Mean(), Scorer())
    paths = [voices / "s0/r0/0.wav", voices / "s0/r0/1.wav"]
    assert verifier.enrol("Anna", paths, store=store, channel="room").count == 2
    for path, enrolment in zip(paths, store.enrolments("Anna"), strict=True):
        heard = verifier.hear(path)
        assert (enrolment.source, enrolment.channel) == (path.name, "room")
        assert (enrolment.seconds, enrolment.narrow) == (heard.facts.speech, heard.facts.narrow)
        np.testing.assert_array_equal(store.embeddings([enrolment.id])[0], heard.vector)
    again = verifier.enrol("Anna", [paths[0].read_bytes(), voices / "s0/r1/0.wav"], store=store)
    assert again.count == 1 and len(again.known) == 1  # bytes or a path: one recording


def test_by_the_name_of_a_store_or_an_open_one(tmp_path, voices):
    verifier, name = Verifier(Mean(), Scorer(), folder=None), tmp_path / "new.sqlite"
    verifier.fingerprint = "m"
    for n in range(3):
        verifier.enrol(f"s{n}", [voices / f"s{n}/r0/0.wav"], store=name)
    probe = voices / "s1/r0/0.wav"
    found = verifier.identify(probe, 2, store=name)
    assert found.candidates[0].speaker == "s1" and len(found.candidates) == 2
    with open_store(name) as store:
        assert verifier.identify(probe, 2, store=store) == found
        verifier.enrol("s4", [voices / "s4/r0/0.wav"], store=store)
        assert verifier.identify(voices / "s4/r0/0.wav", store=store).candidates[0].speaker == "s4"
        assert verifier.identify(probe, 2, store=store, combining="best").comparisons == 4
    verifier.fingerprint = "another"
    for call in (verifier.identify, lambda p, store: verifier.enrol("s5", [p], store=store)):
        with pytest.raises(StoreError, match="another model"):
            call(voices / "s5/r0/0.wav", store=name)


def test_a_recording_that_is_not_good_enough_is_not_enrolled(store, voices, tmp_path):
    verifier = Verifier(Mean(), Scorer(), limits=Limits(min_speech=0.5))
    good = voices / "s0/r0/0.wav"
    write_wav(tmp_path / "silent.wav", np.zeros(32_000))
    write_wav(tmp_path / "short.wav", read(good)[:6000])
    for name, message in (("silent", r"silent\.wav is silent"), ("short", r"short\.wav is only 0\.3")):
        with pytest.raises(AudioError, match=message):
            verifier.enrol("Anna", [good, tmp_path / f"{name}.wav"], store=store)
    assert store.names() == []


def test_identification_is_undecided_on_a_recording_that_is_not_good_enough(store, voices, tmp_path):
    sure = Calibration(100.0, 1.0, (), 0.5, "cosine", "calls", 9, 90, None, ())
    verifier = Verifier(Mean(), Scorer(), calibration=sure)
    verifier.enrol("Anna", [voices / "s0/r0/0.wav"], store=store)
    assert verifier.identify(voices / "s0/r1/0.wav", store=store).speaker == "Anna"
    strict = Verifier(Mean(), Scorer(), calibration=sure, limits=Limits(min_speech=60))
    found = strict.identify(voices / "s0/r1/0.wav", store=store)
    assert found.decision == "undecided" and found.speaker is None and "at least 60 s" in str(found)
    assert found.candidates[0].speaker == "Anna"
    write_wav(tmp_path / "silent.wav", np.zeros(32_000))
    silent = verifier.identify(tmp_path / "silent.wav", store=store)
    assert silent.decision == "undecided" and silent.candidates == () and "is silent" in str(silent)
